"""GET /api/v1/adapters: which version translates each pair, and why not another one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from serve.api.handler import StateDep
from tell.errors import LanguageError
from tell.languages import parse_pair

routes = APIRouter()


class LanguageInfo(BaseModel):
    code: str = Field(description="The BCP 47 code")
    name: str = Field(description="The name in English")
    autonym: str = Field(description="The name in the language itself")
    rtl: bool = Field(description="Whether the language is written from right to left")


class AdapterStatus(BaseModel):
    pair: str
    source: LanguageInfo | None = None
    target: LanguageInfo | None = None
    adapter: str | None = Field(default=None, description="The id of the version that translates now")
    wanted: str | None = Field(
        default=None, description="The id of the version that the registry names as live; where it names none, of the one that is shipped with tellmt"
    )
    shipped: bool = Field(description="Whether `wanted` is shipped with tellmt, since the registry has no live version of the pair")
    generation: int | None = Field(
        default=None, description="The registry's number of the change by which the version that translates now is live; it grows with every change of a pair"
    )
    state: str = Field(
        description="live; loading, or loaded and waiting for other replicas; cold: a request for the pair loads it; or refused: `wanted` cannot be used, and "
        "`adapter`, if any, still translates"
    )
    reason: str | None = Field(default=None, description="Why `wanted` is refused")
    pinned: bool = Field(description="Whether the pair stays loaded, however seldom it is requested")
    used: datetime | None = Field(default=None, description="When a request last used the pair, since the service started")
    base: str | None = Field(default=None, description="The base of the version that translates now")
    since: datetime | None = Field(default=None, description="When this version was loaded")
    in_flight: int = Field(description="Requests that this version is translating")
    scores: list[dict[str, Any]] = Field(description="The scores on the card of the version that translates now")


_SCORE = {"name": "BLEU", "score": 12.2, "mean": 12.2, "ci": 1.1, "signature": "nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"}
EXAMPLE: dict[str, Any] = {
    "engine": "ct2", "base": "gemma-3-270m", "revision": "9b0cfec892e2bc2afd938c98eabe4e4a7b1e0ca1", "reason": None,
    "pairs": [
        {
            "pair": "is-en", "source": {"code": "is", "name": "Icelandic", "autonym": "íslenska", "rtl": False},
            "target": {"code": "en", "name": "English", "autonym": "English", "rtl": False},
            "adapter": "3f9a0c1d5b7e28460f3c5a7e91d24b86", "wanted": "3f9a0c1d5b7e28460f3c5a7e91d24b86", "shipped": False, "generation": 4, "state": "live",
            "reason": None,
            "pinned": False, "used": "2030-01-31T12:00:00Z", "base": "gemma-3-270m", "since": "2030-01-31T10:00:00Z", "in_flight": 0,
            "scores": [{"name": "newstest2021", "segments": 1000, "systems": {"adapter": {"bleu": _SCORE}}}],
        }
    ],
}  # fmt: skip


class AdaptersResponse(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    engine: str
    base: str = Field(description="The id of the base model")
    revision: str = Field(description="The revision of the base model")
    reason: str | None = Field(default=None, description="Why the service cannot read the registry, if so")
    pairs: list[AdapterStatus]


def _languages(pair: str) -> tuple[LanguageInfo | None, LanguageInfo | None]:
    """The source and the target. Both are None for a file of the registry whose name is no pair."""
    try:
        parsed = parse_pair(pair)
    except LanguageError:
        return None, None
    source, target = (
        LanguageInfo(code=language.tag, name=language.name, autonym=language.autonym, rtl=language.rtl) for language in (parsed.source, parsed.target)
    )
    return source, target


@routes.get("/api/v1/adapters", response_model=AdaptersResponse, summary="Show which version translates each pair, and why not another one", tags=["native"])
async def adapters(state: StateDep) -> AdaptersResponse:
    service, follower = state.service, state.follower
    pairs = []
    for pair, followed in sorted(follower.pairs.items()):
        version = service.versions.live.get(pair)
        card = version.adapter.card if version else None
        source, target = _languages(pair)
        last_requested = service.versions.last_requested.get(pair)
        pairs.append(
            AdapterStatus(
                pair=pair, source=source, target=target, adapter=version.adapter.id if version else None, wanted=followed.wanted, shipped=followed.shipped,
                generation=version.generation if version else None,
                state=followed.state, reason=followed.reason, pinned=pair in service.versions.pinned,
                used=datetime.fromtimestamp(last_requested, UTC) if last_requested else None, base=card.base.id if card else None,
                since=datetime.fromtimestamp(version.since, UTC) if version else None, in_flight=version.in_flight if version else 0,
                scores=card.scores if card else [],
            )
        )  # fmt: skip
    return AdaptersResponse(engine=service.engine.name, base=service.base.id, revision=service.base.revision, reason=follower.reason, pairs=pairs)
