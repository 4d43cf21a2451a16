"""What a running service says of itself, as `Client` and `AsyncClient` return it: frozen records. Reads and writes nothing.

A field that an earlier service does not send has its default.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from tell.client.models import Record


class ServedLanguage(Record):
    """A source language that the service translates from. `targets` are the codes of the languages it translates into."""

    code: str
    name: str
    targets: tuple[str, ...]


class LanguageInfo(Record):
    """A language by its BCP 47 code, its name in English and in itself, and whether it is written from right to left."""

    code: str
    name: str
    autonym: str
    rtl: bool


class AdapterStatus(Record):
    """The state of one pair: `adapter` is the id of the adapter that answers, `wanted` the id of the one that should.

    `state` is live, loading, cold or refused, with the reason. `used` is the time of the last request for the pair, `since` when the adapter was loaded.
    `generation` is the registry's number of the change by which it is live.
    """

    pair: str
    adapter: str | None
    wanted: str | None
    shipped: bool
    state: str
    reason: str | None
    pinned: bool
    base: str | None
    in_flight: int
    scores: tuple[dict[str, Any], ...]
    source: LanguageInfo | None = None
    target: LanguageInfo | None = None
    used: datetime | None = None
    since: datetime | None = None
    generation: int | None = None


class ServiceStatus(Record):
    """The engine and the base of a service, and the state of each pair. `reason` says why the service cannot read its registry, if so."""

    engine: str
    base: str
    revision: str
    pairs: tuple[AdapterStatus, ...]
    reason: str | None = None


class ServiceInfo(Record):
    """What a service accepts: endings of file names, corrections, requests for the bare base, and the limits of one request.

    `keys` is true where the service asks for an API key. `notice` is what its operator tells the users of the page.
    """

    formats: tuple[str, ...]
    feedback: bool
    compare_base: bool
    keys: bool
    max_characters: int
    max_texts: int
    max_bytes: int
    notice: str = ""


class SegmentLoad(Record):
    """Segments that are admitted and not translated yet, those of them that the engine has, and the most that may wait."""

    waiting: int
    running: int
    limit: int


class DocumentLoad(Record):
    queued: int
    translating: int
    kept: int


class AdapterLoad(Record):
    """Pairs that are loaded, and the most that can be."""

    loaded: int
    limit: int


class TranslationTotals(Record):
    """Counts since the service started: segments, their characters, flags, and segments that the cache answered."""

    segments: int
    characters: int
    flagged: int
    cached: int


class ServiceLoad(Record):
    """How busy a service is. `uptime` is in seconds; `requests` are those under way besides this one."""

    version: str
    engine: str
    started: datetime
    uptime: int
    requests: int
    segments: SegmentLoad
    documents: DocumentLoad
    adapters: AdapterLoad
    translated: TranslationTotals


class Readiness(Record):
    """That a service translates, and which pairs."""

    status: Literal["ready"]
    pairs: tuple[str, ...]


class RegistryPair(Record):
    """A pair in the registry after a change: the ids of the live adapter and of the one before it, and how often the pair has changed."""

    pair: str
    generation: int
    pinned: bool
    live: str | None = None
    previous: str | None = None


class MetricScore(Record):
    score: float
    signature: str


class CanaryRun(Record):
    """One run of a canary set; times are in seconds, `time` since 1970. `hard` is, for each kind of hard text, how many have a flag, of how many."""

    id: int
    time: float
    version: str | None
    base: str | None
    canary: str
    state: str
    segments: int
    scores: dict[str, MetricScore]
    hard: dict[str, tuple[int, ...]]
    against: int | None
    delta: float | None
    p: float | None
    findings: tuple[str, ...]
    baseline: bool
    note: str | None
    seconds: float


class LiveSignals(Record):
    """Rates and means over `seconds` of users' traffic; None where there was none. `time` is in seconds since 1970, latencies are in seconds."""

    time: float
    version: str
    seconds: float
    segments: int
    flags: dict[str, float]
    length_ratio: float | None
    languages: dict[str, float]
    unknown_letters: float | None
    drift: float | None
    drift_usual: float | None
    tokens_per_second: float | None
    latency_p50: float | None
    latency_p95: float | None
    waiting: float | None


class FeedbackScores(Record):
    """Scores of a version's translations against users' corrections."""

    time: float
    version: str
    segments: int
    scores: dict[str, MetricScore]


class Alarm(Record):
    """What the monitor found wrong, and since when, in seconds since 1970; `closed` is None while it is on."""

    pair: str
    version: str | None
    kind: str
    reason: str
    opened: float
    closed: float | None
    rolled_back_to: str | None


class PairMonitor(Record):
    """The quality and the traffic of one pair, the oldest first."""

    pair: str
    live: str | None
    canary: str | None
    segments: int
    runs: tuple[CanaryRun, ...]
    signals: tuple[LiveSignals, ...]
    feedback: tuple[FeedbackScores, ...]


class MonitorReport(Record):
    """What the monitor of a service knows. `enabled` is false where it keeps no history; `problems` say what it cannot do."""

    time: datetime
    enabled: bool
    problems: tuple[str, ...]
    waiting: int
    alarms: tuple[Alarm, ...]
    pairs: tuple[PairMonitor, ...]
