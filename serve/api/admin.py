"""Administration, for keys of the scope `admin`: promote, roll back, pin, and the log of who did it and why. Writes the registry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from serve.adapters.follower import Follower
from serve.api.schema import Problem
from serve.auth.gate import ADMIN, admin_only
from serve.http.bodies import body_schema, read_body
from tell.console import say
from tell.errors import AdapterError, RegistryError
from tell.languages import parse_pair
from tell.registry.registry import PairState, Registry

PAIR = "a pair such as is-en, or pt-BR:en"
WHY = "the reason, kept in the log"
# Of the log's entries, the newest; all are in the registry's own file.
SHOWN = 100


class Conflict(RegistryError):
    """What is asked cannot be done to what is in the registry."""

    status = 409


class Change(BaseModel):
    """A change to one pair."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"pair": "is-en", "why": "numbers come out wrong"}]})

    pair: str = Field(max_length=80, description=PAIR)
    why: str = Field(min_length=1, max_length=500, pattern=r"\S", description=WHY)


class Promotion(Change):
    """A version to be live from now on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"pair": "is-en", "adapter": "3f9a0c1d", "why": "the gate was too strict"}]})

    adapter: str = Field(pattern=r"^[0-9a-f]{4,32}$", description="the id of a published adapter, or its first characters, 4 at least")


C = TypeVar("C", bound=Change)


STATE: dict[str, Any] = {"pair": "is-en", "live": "3f9a0c1d5b7e28460f3c5a7e91d24b86", "previous": None, "generation": 3, "pinned": False}
ENTRY: dict[str, Any] = {
    "time": "2030-01-31T12:00:00Z",
    "who": "tellmt",
    "event": "promote",
    "pair": "is-en",
    "id": "3f9a0c1d5b7e28460f3c5a7e91d24b86",
    "why": "better on names (by API key ann)",
}


class State(BaseModel):
    """A pair as the registry has it after the change."""

    model_config = ConfigDict(json_schema_extra={"examples": [STATE]})

    pair: str
    live: str | None = None
    previous: str | None = None
    generation: int
    pinned: bool


class Log(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"log": [ENTRY]}]})

    log: list[dict[str, Any]] = Field(description="Changes, the oldest first")


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The request cannot be used"},
    409: {
        "model": Problem, "description": "It cannot be done: no such adapter, or nothing to roll back to",
        "content": {"application/json": {"example": {"error": "is-en: there is no earlier version to roll back to"}}},
    },
}  # fmt: skip
routes = APIRouter(prefix=ADMIN.rstrip("/"), tags=["administration"], dependencies=[Depends(admin_only)])


def _about(model: type[Change]) -> dict[str, Any]:
    return {"response_model": State, "responses": ERRORS, "openapi_extra": body_schema(model, "application/json")}


async def _change(request: Request, model: type[C], change: Callable[[Registry, C, str], PairState]) -> State:
    asked = await read_body(request, model)
    # Parsed, and written anew by the registry: what came never becomes part of a path.
    pair = str(parse_pair(asked.pair, "pair"))
    follower: Follower = request.app.state.follower
    registry: Registry = follower.registry
    # The log's own `who` is the user that runs the service.
    asked = asked.model_copy(update={"why": f"{asked.why.strip()} (by API key {request.scope['tellmt.caller'].name})"})
    try:
        state = await asyncio.to_thread(change, registry, asked, pair)
    except (RegistryError, AdapterError) as e:
        # Where it lies on this machine is for the log.
        say(f"not done: {e}")
        raise Conflict(e.thing, place=pair) from None
    except OSError as e:
        say(f"not done: {registry.place}: {e.strerror or type(e).__name__}")
        raise RegistryError("the registry cannot be written") from None
    follower.wake()
    return State(pair=state.pair, live=state.live, previous=state.previous, generation=state.generation, pinned=state.pinned)


@routes.post("/promote", summary="Make a published version live for its pair, without asking the gate", **_about(Promotion))
async def promote(request: Request) -> State:
    return await _change(request, Promotion, lambda registry, asked, pair: registry.promote(pair, registry.find(asked.adapter), asked.why))


@routes.post("/rollback", summary="Make the previous version live again, or where there is none, the one that came with tellmt", **_about(Change))
async def rollback(request: Request) -> State:
    shipped = request.app.state.follower.shipped
    return await _change(request, Change, lambda registry, asked, pair: registry.rollback(pair, asked.why, to_none=pair in shipped))


@routes.post("/pin", summary="Keep a pair loaded where more pairs are live than there is room for", **_about(Change))
async def pin(request: Request) -> State:
    return await _change(request, Change, lambda registry, asked, pair: registry.pin(pair, True, asked.why))


@routes.post("/unpin", summary="Take the pin off a pair", **_about(Change))
async def unpin(request: Request) -> State:
    return await _change(request, Change, lambda registry, asked, pair: registry.pin(pair, False, asked.why))


@routes.get("/log", response_model=Log, summary=f"The newest {SHOWN} changes to the registry: who, when, what, why")
async def log(request: Request) -> Log:
    registry: Registry = request.app.state.follower.registry
    try:
        entries = await asyncio.to_thread(registry.log)
    except OSError as e:
        say(f"{registry.place}: {e.strerror or type(e).__name__}")
        raise RegistryError("the registry cannot be read") from None
    return Log(log=entries[-SHOWN:])
