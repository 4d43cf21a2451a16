"""GET /api/v1/monitor: what canary runs, live signals and alarms say of each pair. Reads the monitor's history; no text is in it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from eval.monitor.history import History, HistoryError
from serve.adapters.follower import Follower
from serve.monitor import Monitor
from serve.translation.service import Service

# Of each pair, the newest runs, and the newest rows of signals: two days of five minutes.
RUNS, SIGNALS, ALARMS = 200, 576, 50
routes = APIRouter()


class Score(BaseModel):
    score: float
    signature: str


class CanaryRun(BaseModel):
    id: int
    time: float = Field(description="Seconds since 1970")
    version: str | None = Field(description="The adapter that translated; null when none did")
    base: str | None
    canary: str = Field(description="The hash of the canary set: runs of different sets are not comparable")
    state: str = Field(description="scored, or unreachable")
    segments: int
    scores: dict[str, Score] = Field(description="bleu and chrf")
    hard: dict[str, list[int]] = Field(description="Of the hard texts of each kind: how many have a flag, and of how many")
    against: int | None = Field(description="The id of the run it was compared with")
    delta: float | None = Field(description="Points of chrF2 above the baseline")
    p: float | None = Field(description="Of the paired test; null where the loss was too small to ask")
    findings: list[str] = Field(description="What was found and confirmed by a second run")
    baseline: bool = Field(description="Whether later runs of this version are compared with it")
    note: str | None
    seconds: float


class Signals(BaseModel):
    """Rates and means over `seconds`, of users' traffic alone; null where nothing was seen."""

    time: float
    version: str
    seconds: float
    segments: int
    flags: dict[str, float] = Field(description="Share of the segments with each flag")
    length_ratio: float | None
    languages: dict[str, float] = Field(description="Share of the input in the pair's source language, its target, or another")
    unknown_letters: float | None = Field(description="Share of the input's letters that the training data did not have")
    drift: float | None = Field(description="Jensen-Shannon divergence of the input from the training data, in bits")
    drift_usual: float | None = Field(description="What 19 of 20 windows of the training data itself stay below")
    tokens_per_second: float | None
    latency_p50: float | None
    latency_p95: float | None
    waiting: float | None = Field(description="Segments of the pair that wait, on average")


class Corrections(BaseModel):
    time: float
    version: str
    segments: int
    scores: dict[str, Score] = Field(description="bleu, chrf and ter of what was translated against what users made of it")


class AlarmState(BaseModel):
    pair: str
    version: str | None
    kind: str = Field(description="quality, worthless, hard or unreachable")
    reason: str
    opened: float
    closed: float | None
    rolled_back_to: str | None


class PairMonitor(BaseModel):
    pair: str
    live: str | None
    canary: str | None = Field(description="The hash of the canary set that is frozen now")
    segments: int
    runs: list[CanaryRun] = Field(description=f"The newest {RUNS}, oldest first")
    signals: list[Signals] = Field(description=f"The newest {SIGNALS}, oldest first; the last is of now")
    feedback: list[Corrections]


_VERSION, _BASE = "3f9a0c1d5b7e28460f3c5a7e91d24b86", "gemma-3-270m"
_SCORES = {"chrf": {"score": 33.8, "signature": "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0"}}
EXAMPLE: dict[str, Any] = {
    "time": "2030-01-31T12:00:00Z", "enabled": True, "problems": [], "waiting": 3,
    "alarms": [
        {
            "pair": "is-en", "version": "847403e6501f3c5a7e91d24b86a1c2e4", "kind": "quality",
            "reason": "chrF2 21.0 against 33.8 (-12.8, p = 1e-04, 200 segments)",
            "opened": 1896000000.0, "closed": 1896000060.0, "rolled_back_to": _VERSION,
        }
    ],
    "pairs": [
        {
            "pair": "is-en", "live": _VERSION, "canary": 64 * "c", "segments": 200,
            "runs": [
                {
                    "id": 7, "time": 1896000000.0, "version": _VERSION, "base": _BASE, "canary": 64 * "c", "state": "scored", "segments": 200,
                    "scores": _SCORES,
                    "hard": {"word": [0, 8], "placeholder": [1, 8]}, "against": 3, "delta": -1.2,
                    "p": 0.03, "findings": [], "baseline": False, "note": "a second run did not find the same",
                    "seconds": 92.5,
                }
            ],
            "signals": [
                {
                    "time": 1896000000.0, "version": _VERSION, "seconds": 300.0, "segments": 61, "flags": {"number": 0.016}, "length_ratio": 1.05,
                    "languages": {"source": 0.97, "other": 0.03}, "unknown_letters": 0.001, "drift": 0.09, "drift_usual": 0.08, "tokens_per_second": 5.1,
                    "latency_p50": 0.21, "latency_p95": 0.9, "waiting": 0.1,
                }
            ],
            "feedback": [{"time": 1896000000.0, "version": _VERSION, "segments": 212, "scores": _SCORES}],
        }
    ],
}  # fmt: skip


class MonitorState(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    time: datetime
    enabled: bool = Field(description="Whether this service runs canary sets and keeps a history")
    problems: list[str] = Field(description="What of the monitor does not work now: history, canary_set, webhook, roll_back, unexpected")
    waiting: int = Field(description="Segments that wait, of all pairs")
    alarms: list[AlarmState] = Field(description=f"The newest {ALARMS}, newest first; those without `closed` are on")
    pairs: list[PairMonitor]


def _kept(history: History, pair: str) -> dict[str, Any]:
    signals = [{"time": at, "version": version, **data} for at, version, data in history.signals(pair, SIGNALS)]
    return {"runs": history.runs(pair, RUNS), "signals": signals, "feedback": history.feedback(pair)}


def _all(history: History, pairs: list[str]) -> tuple[dict[str, dict[str, Any]], list[Any]]:
    return {pair: _kept(history, pair) for pair in pairs}, history.alarms(most=ALARMS)


@routes.get("/api/v1/monitor", response_model=MonitorState, summary="Canary runs, live signals and alarms", tags=["operation"])
async def monitor(request: Request) -> MonitorState:
    service: Service = request.app.state.service
    follower: Follower = request.app.state.follower
    found: Monitor = request.app.state.monitor
    names = sorted({*follower.pairs, *found.sets})
    kept: dict[str, dict[str, Any]] = {}
    alarms: list[Any] = []
    problems = {what for what, _ in found.problems}
    if found.history is not None:
        try:
            kept, alarms = await asyncio.to_thread(_all, found.history, names)
        except HistoryError:
            problems.add("history")
    now = datetime.now(UTC)
    current: dict[str, list[dict[str, Any]]] = {}
    for pair, version, summary in service.signals.now():
        if summary["segments"]:
            current.setdefault(pair, []).append({"time": now.timestamp(), "version": version, **summary})
    pairs = []
    for pair in names:
        own = kept.get(pair, {"runs": [], "signals": [], "feedback": []})
        live, canary = service.versions.live.get(pair), found.sets.get(pair)
        runs = [CanaryRun(**{name: getattr(run, name) for name in CanaryRun.model_fields}) for run in own["runs"]]
        signals = [Signals(**row) for row in [*own["signals"], *current.get(pair, [])]]
        pairs.append(
            PairMonitor(
                pair=pair, live=live.adapter.id if live else None, canary=canary.sha256 if canary else None,
                segments=len(canary.segments) if canary else 0, runs=runs, signals=signals, feedback=[Corrections(**row) for row in own["feedback"]],
            )
        )  # fmt: skip
    told = [
        AlarmState(pair=a.pair, version=a.version, kind=a.kind, reason=a.text, opened=a.opened, closed=a.closed, rolled_back_to=a.rolled_back) for a in alarms
    ]
    return MonitorState(
        time=now, enabled=found.history is not None, problems=sorted(problems), waiting=service.queue.admission.waiting, alarms=told, pairs=pairs
    )
