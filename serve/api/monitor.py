"""GET /api/v1/monitor: canary runs, live signals and alarms of each pair. Reads the monitor's history, which holds no text."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from eval.monitor.history import History, HistoryError
from serve.api.handler import StateDep

# The newest entries in one response: runs of each pair, rows of signals of each pair (two days of five minutes each), and alarms.
RUNS, SIGNALS, ALARMS = 200, 576, 50
routes = APIRouter()


class MetricScore(BaseModel):
    score: float
    signature: str


class CanaryRun(BaseModel):
    id: int
    time: float = Field(description="Seconds since 1970")
    version: str | None = Field(description="The id of the adapter that translated; null when none did")
    base: str | None
    canary: str = Field(description="The hash of the canary set; only runs of the same set can be compared")
    state: str = Field(description="scored, or unreachable")
    segments: int
    scores: dict[str, MetricScore] = Field(description="bleu and chrf")
    hard: dict[str, list[int]] = Field(description="For each kind of hard text: how many texts have a flag, and how many there are")
    against: int | None = Field(description="The id of the run that this one was compared with")
    delta: float | None = Field(description="The difference to the baseline, in points of chrF2")
    p: float | None = Field(description="The p-value of the paired test; null where the loss was too small for a test")
    findings: list[str] = Field(description="Losses that a second run confirmed")
    baseline: bool = Field(description="Whether later runs of this version are compared with this one")
    note: str | None
    seconds: float = Field(description="How long the run took")


class LiveSignals(BaseModel):
    """Rates and means over `seconds` of users' traffic alone; null where there was none."""

    time: float = Field(description="Seconds since 1970")
    version: str
    seconds: float
    segments: int
    flags: dict[str, float] = Field(description="The share of segments with each flag")
    length_ratio: float | None = Field(description="Characters of the translation for each character of the text")
    languages: dict[str, float] = Field(description="The share of the input in the pair's source language, in its target language, or in another one")
    unknown_letters: float | None = Field(description="The share of the input's letters that the training data does not have")
    drift: float | None = Field(description="The Jensen-Shannon divergence of the input from the training data, in bits")
    drift_usual: float | None = Field(description="The value below which 19 of 20 windows of the training data itself lie")
    tokens_per_second: float | None
    latency_p50: float | None = Field(description="The median time of a request, in seconds")
    latency_p95: float | None = Field(description="The time within which 95 of 100 requests end, in seconds")
    waiting: float | None = Field(description="Segments of the pair that wait, on average")


class FeedbackScores(BaseModel):
    time: float = Field(description="Seconds since 1970")
    version: str
    segments: int
    scores: dict[str, MetricScore] = Field(description="bleu, chrf and ter of the translations against users' corrections")


class Alarm(BaseModel):
    pair: str
    version: str | None
    kind: str = Field(description="quality, worthless, hard or unreachable")
    reason: str
    opened: float = Field(description="Seconds since 1970")
    closed: float | None = Field(description="Seconds since 1970; null while the alarm is on")
    rolled_back_to: str | None = Field(description="The id of the version that the monitor made live again")


class PairMonitor(BaseModel):
    pair: str
    live: str | None = Field(description="The id of the version that translates now")
    canary: str | None = Field(description="The hash of the canary set in use")
    segments: int = Field(description="Segments of the canary set")
    runs: list[CanaryRun] = Field(description=f"The newest {RUNS} runs, the oldest first")
    signals: list[LiveSignals] = Field(description=f"The newest {SIGNALS} rows, the oldest first; the last row is of now")
    feedback: list[FeedbackScores]


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


class MonitorResponse(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    time: datetime
    enabled: bool = Field(description="Whether this service runs canary sets and keeps a history")
    problems: list[str] = Field(description="Parts of the monitor that do not work now: history, canary_set, webhook, roll_back, unexpected")
    waiting: int = Field(description="Segments that wait, of all pairs")
    alarms: list[Alarm] = Field(description=f"The newest {ALARMS} alarms, the newest first; those without `closed` are on")
    pairs: list[PairMonitor]


def _pair_history(history: History, pair: str) -> dict[str, Any]:
    signals = [{"time": time, "version": version, **data} for time, version, data in history.signals(pair, SIGNALS)]
    return {"runs": history.runs(pair, RUNS), "signals": signals, "feedback": history.feedback(pair)}


def _read_history(history: History, pairs: list[str]) -> tuple[dict[str, dict[str, Any]], list[Any]]:
    """The history of each pair, and the alarms of all."""
    return {pair: _pair_history(history, pair) for pair in pairs}, history.alarms(most=ALARMS)


@routes.get("/api/v1/monitor", response_model=MonitorResponse, summary="Show canary runs, live signals and alarms", tags=["operation"])
async def monitor(state: StateDep) -> MonitorResponse:
    service, watch = state.service, state.monitor
    names = sorted({*state.follower.pairs, *watch.sets})
    histories: dict[str, dict[str, Any]] = {}
    alarms: list[Any] = []
    problems = {kind for kind, _ in watch.problems}
    if watch.history is not None:
        try:
            histories, alarms = await asyncio.to_thread(_read_history, watch.history, names)
        except HistoryError:
            problems.add("history")
    now = datetime.now(UTC)
    # The window that has not ended yet.
    current: dict[str, list[dict[str, Any]]] = {}
    for pair, version, summary in service.signals.now():
        if summary["segments"]:
            current.setdefault(pair, []).append({"time": now.timestamp(), "version": version, **summary})
    pairs = []
    for pair in names:
        history = histories.get(pair, {"runs": [], "signals": [], "feedback": []})
        live, canary = service.versions.live.get(pair), watch.sets.get(pair)
        runs = [CanaryRun(**{name: getattr(run, name) for name in CanaryRun.model_fields}) for run in history["runs"]]
        signals = [LiveSignals(**row) for row in [*history["signals"], *current.get(pair, [])]]
        pairs.append(
            PairMonitor(
                pair=pair, live=live.adapter.id if live else None, canary=canary.sha256 if canary else None,
                segments=len(canary.segments) if canary else 0, runs=runs, signals=signals, feedback=[FeedbackScores(**row) for row in history["feedback"]],
            )
        )  # fmt: skip
    return MonitorResponse(
        time=now, enabled=watch.history is not None, problems=sorted(problems), waiting=service.queue.admission.waiting, pairs=pairs,
        alarms=[
            Alarm(pair=a.pair, version=a.version, kind=a.kind, reason=a.text, opened=a.opened, closed=a.closed, rolled_back_to=a.rolled_back) for a in alarms
        ],
    )  # fmt: skip
