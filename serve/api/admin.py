"""Administration, for keys of the scope `admin`: promote, roll back, pin, and the log of who changed what and why. Writes the registry."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from serve.api.handler import AppState, StateDep
from serve.api.schema import Error
from serve.auth.gate import ADMIN, admin_only, caller_of
from serve.http.bodies import body_schema, read_body
from serve.threads import REGISTRY
from tell.errors import AdapterError, RegistryError
from tell.languages import parse_pair
from tell.registry.registry import PairState, Registry

PAIR = "a pair such as is-en, or pt-BR:en"
WHY = "the reason, kept in the log"
# Entries of the log in one response, the newest; the registry's own file has all.
NEWEST = 100
logger = logging.getLogger(__name__)


class Conflict(RegistryError):
    """The change does not fit the state of the registry."""

    status = 409


class PairChangeRequest(BaseModel):
    """A change to one pair."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"pair": "is-en", "why": "numbers come out wrong"}]})

    pair: str = Field(max_length=80, description=PAIR)
    why: str = Field(min_length=1, max_length=500, pattern=r"\S", description=WHY)


class PromoteRequest(PairChangeRequest):
    """A version that becomes live for its pair."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"pair": "is-en", "adapter": "3f9a0c1d", "why": "the gate was too strict"}]})

    adapter: str = Field(pattern=r"^[0-9a-f]{4,32}$", description="the id of a published adapter, or at least its first 4 characters")


C = TypeVar("C", bound=PairChangeRequest)


PAIR_EXAMPLE: dict[str, Any] = {"pair": "is-en", "live": "3f9a0c1d5b7e28460f3c5a7e91d24b86", "previous": None, "generation": 3, "pinned": False}
ENTRY_EXAMPLE: dict[str, Any] = {
    "time": "2030-01-31T12:00:00Z",
    "who": "tellmt",
    "event": "promote",
    "pair": "is-en",
    "id": "3f9a0c1d5b7e28460f3c5a7e91d24b86",
    "why": "better on names (by API key ann)",
}


class RegistryPair(BaseModel):
    """A pair in the registry after the change."""

    model_config = ConfigDict(json_schema_extra={"examples": [PAIR_EXAMPLE]})

    pair: str
    live: str | None = Field(default=None, description="The id of the version that is live")
    previous: str | None = Field(default=None, description="The id of the version that a rollback makes live")
    generation: int = Field(description="How often the pair has changed")
    pinned: bool = Field(description="Whether the pair stays loaded, however seldom it is requested")


class RegistryLog(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"log": [ENTRY_EXAMPLE]}]})

    log: list[dict[str, Any]] = Field(description="Changes, the oldest first")


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "The request is not valid"},
    409: {
        "model": Error, "description": "The registry has no such adapter, or no version to roll back to",
        "content": {"application/json": {"example": {"error": "is-en: there is no earlier version to roll back to"}}},
    },
}  # fmt: skip
routes = APIRouter(prefix=ADMIN.rstrip("/"), tags=["administration"], dependencies=[Depends(admin_only)])


def _described(model: type[PairChangeRequest]) -> dict[str, Any]:
    return {"response_model": RegistryPair, "responses": ERRORS, "openapi_extra": body_schema(model, "application/json")}


async def _change(request: Request, state: AppState, model: type[C], change: Callable[[Registry, C, str], PairState]) -> RegistryPair:
    body = await read_body(request, model)
    # Parsed, and written anew by the registry: the client's own string never becomes part of a path.
    pair = str(parse_pair(body.pair, "pair"))
    registry = state.follower.registry
    # The log's own `who` is the user that runs the service.
    body = body.model_copy(update={"why": f"{body.why.strip()} (by API key {caller_of(request).name})"})
    try:
        changed = await REGISTRY.run(change, registry, body, pair)
    except (RegistryError, AdapterError) as e:
        # Only the log may name the registry's place on this machine.
        logger.warning(f"not done: {e}", extra={"pair": pair})
        raise Conflict(e.thing, place=pair) from None
    except OSError as e:
        logger.error(f"not done: {registry.place}: {e.strerror or type(e).__name__}", extra={"pair": pair})
        raise RegistryError("the registry cannot be written") from None
    state.follower.wake()
    return RegistryPair(pair=changed.pair, live=changed.live, previous=changed.previous, generation=changed.generation, pinned=changed.pinned)


@routes.post("/promote", summary="Make a published version live for its pair, without the gate's checks", **_described(PromoteRequest))
async def promote(request: Request, state: StateDep) -> RegistryPair:
    return await _change(request, state, PromoteRequest, lambda registry, body, pair: registry.promote(pair, registry.find(body.adapter), body.why))


@routes.post("/rollback", summary="Make the previous version live again, or where there is none, the one shipped with tellmt", **_described(PairChangeRequest))
async def rollback(request: Request, state: StateDep) -> RegistryPair:
    shipped = state.follower.shipped
    return await _change(request, state, PairChangeRequest, lambda registry, body, pair: registry.rollback(pair, body.why, to_none=pair in shipped))


@routes.post("/pin", summary="Keep a pair loaded where more pairs are live than there is room for", **_described(PairChangeRequest))
async def pin(request: Request, state: StateDep) -> RegistryPair:
    return await _change(request, state, PairChangeRequest, lambda registry, body, pair: registry.pin(pair, True, body.why))


@routes.post("/unpin", summary="Remove the pin of a pair", **_described(PairChangeRequest))
async def unpin(request: Request, state: StateDep) -> RegistryPair:
    return await _change(request, state, PairChangeRequest, lambda registry, body, pair: registry.pin(pair, False, body.why))


@routes.get("/log", response_model=RegistryLog, summary=f"Show the newest {NEWEST} changes to the registry: who, when, what, why")
async def registry_log(state: StateDep) -> RegistryLog:
    registry = state.follower.registry
    try:
        entries = await REGISTRY.run(registry.log)
    except OSError as e:
        logger.error(f"{registry.place}: {e.strerror or type(e).__name__}")
        raise RegistryError("the registry cannot be read") from None
    return RegistryLog(log=entries[-NEWEST:])
