"""GET /api/v1/adapters: what answers for each pair, and why not something else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from serve.adapters.follower import Follower
from serve.translation.service import Service
from tell.errors import LanguageError
from tell.languages import parse_pair

routes = APIRouter()


class Code(BaseModel):
    code: str
    name: str
    autonym: str
    rtl: bool


class PairStatus(BaseModel):
    pair: str
    source: Code | None = None
    target: Code | None = None
    adapter: str | None = Field(default=None, description="The version that answers now")
    wanted: str | None = Field(default=None, description="The version that the registry names as live; where it names none, the one that came with tellmt")
    shipped: bool = Field(description="Whether `wanted` came with tellmt: the registry has no live version of the pair")
    state: str = Field(description="live; loading; cold: loaded when it is asked for; or refused, with the reason, while `adapter` (if any) goes on answering")
    reason: str | None = None
    pinned: bool = Field(description="Whether the pair keeps its place however seldom it is asked for")
    used: datetime | None = Field(default=None, description="When it was last asked for, since the service started")
    base: str | None = None
    since: datetime | None = None
    in_flight: int
    scores: list[dict[str, Any]] = Field(description="From the card of the version that answers")


_SCORE = {"name": "BLEU", "score": 12.2, "mean": 12.2, "ci": 1.1, "signature": "nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"}
EXAMPLE: dict[str, Any] = {
    "engine": "ct2", "base": "gemma-3-270m", "revision": "9b0cfec892e2bc2afd938c98eabe4e4a7b1e0ca1", "reason": None,
    "pairs": [
        {
            "pair": "is-en", "source": {"code": "is", "name": "Icelandic", "autonym": "íslenska", "rtl": False},
            "target": {"code": "en", "name": "English", "autonym": "English", "rtl": False},
            "adapter": "3f9a0c1d5b7e28460f3c5a7e91d24b86", "wanted": "3f9a0c1d5b7e28460f3c5a7e91d24b86", "shipped": False, "state": "live", "reason": None,
            "pinned": False, "used": "2030-01-31T12:00:00Z", "base": "gemma-3-270m", "since": "2030-01-31T10:00:00Z", "in_flight": 0,
            "scores": [{"name": "newstest2021", "segments": 1000, "systems": {"adapter": {"bleu": _SCORE}}}],
        }
    ],
}  # fmt: skip


class Status(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    engine: str
    base: str
    revision: str
    reason: str | None = Field(default=None, description="Why the registry cannot be read, if so")
    pairs: list[PairStatus]


def _codes(pair: str) -> tuple[Code | None, Code | None]:
    try:
        found = parse_pair(pair)
    except LanguageError:
        # The name of a file in the registry that no pair has.
        return None, None
    source, target = (Code(code=x.tag, name=x.name, autonym=x.autonym, rtl=x.rtl) for x in (found.source, found.target))
    return source, target


@routes.get("/api/v1/adapters", response_model=Status, summary="What answers for each pair, and why not something else", tags=["native"])
async def adapters(request: Request) -> Status:
    service: Service = request.app.state.service
    follower: Follower = request.app.state.follower
    pairs = []
    for pair, followed in sorted(follower.pairs.items()):
        version = service.versions.live.get(pair)
        card = version.adapter.card if version else None
        source, target = _codes(pair)
        pairs.append(
            PairStatus(
                pair=pair, source=source, target=target, adapter=version.adapter.id if version else None, wanted=followed.wanted, shipped=followed.shipped,
                state=followed.state, reason=followed.reason, pinned=pair in service.versions.pinned,
                used=datetime.fromtimestamp(asked, UTC) if (asked := service.versions.last_requested.get(pair)) else None, base=card.base.id if card else None,
                since=datetime.fromtimestamp(version.since, UTC) if version else None, in_flight=version.in_flight if version else 0,
                scores=card.scores if card else [],
            )
        )  # fmt: skip
    return Status(engine=service.engine.name, base=service.base.id, revision=service.base.revision, reason=follower.reason, pairs=pairs)
