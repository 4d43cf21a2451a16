"""Signals of the live traffic by pair and version: flags, lengths, language, unknown letters, drift, speed.

A request puts its segments into a buffer of bounded length and goes on. A thread samples the buffer, a bounded number of segments a second, and drops
them: only counts are kept. Counters at /metrics count all segments; language, letters and drift are those of the sample.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from prometheus_client import Counter as PrometheusCounter
from prometheus_client import Gauge, Histogram

from eval.monitor.drift import WINDOW, Profile, divergence, trigrams, unknown_letters
from serve.metrics.registry import LATENCY, Metrics
from tell.languages import parse_pair
from tell.text.flags import LETTERS, UNLIKELY, Checked
from tell.text.language_id import label, language_likelihoods

# Segments sampled a second, the newest ones. Each takes about a quarter of a millisecond, so this is 1.5% of a core at most.
SAMPLED = 64
# Times of requests that a tally keeps for its percentiles.
TIMES = 1000
RATIOS = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 2.0, 4.0)


@dataclasses.dataclass(slots=True)
class Tally:
    """Counts of one pair and version over some time. `ratio` is the sum over segments of output length by source length; `waiting` the sum over `looks` of
    waiting segments."""

    segments: int = 0
    tokens: int = 0
    ratio: float = 0.0
    flags: Counter[str] = dataclasses.field(default_factory=Counter)
    languages: Counter[str] = dataclasses.field(default_factory=Counter)
    letters: int = 0
    unknown: int = 0
    times: deque[float] = dataclasses.field(default_factory=lambda: deque(maxlen=TIMES))
    waiting: int = 0
    looks: int = 0

    def summary(self, seconds: float, drift: float | None, usual: float | None) -> dict[str, Any]:
        """Rates and means, as the history keeps them; None without data."""
        language_count, times = self.languages.total(), sorted(self.times)

        def percentile(share: float) -> float | None:
            return round(times[min(len(times) - 1, int(share * len(times)))], 4) if times else None

        return {
            "seconds": round(seconds, 1),
            "segments": self.segments,
            "flags": {flag: round(n / self.segments, 5) for flag, n in sorted(self.flags.items())} if self.segments else {},
            "length_ratio": round(self.ratio / self.segments, 4) if self.segments else None,
            "languages": {name: round(n / language_count, 4) for name, n in sorted(self.languages.items())},
            "unknown_letters": round(self.unknown / self.letters, 6) if self.letters else None,
            "drift": None if drift is None else round(drift, 4),
            "drift_usual": None if usual is None else round(usual, 4),
            "tokens_per_second": round(self.tokens / seconds, 2) if seconds > 0 else None,
            "latency_p50": percentile(0.5),
            "latency_p95": percentile(0.95),
            "waiting": round(self.waiting / self.looks, 2) if self.looks else None,
        }


@dataclasses.dataclass(slots=True)
class Drift:
    """Drift of a pair's input: the trigrams of the current window, their number, and the divergence of the last full window."""

    counts: Any = None
    size: int = 0
    last: float | None = None


class Signals:
    def __init__(self, metrics: Metrics):
        common = {"registry": metrics.registry}
        version = ["pair", "version"]
        self.metrics = metrics
        self.answered = PrometheusCounter("tellmt_answered_segments", "Segments answered, after all tries, from the cache too.", version, **common)
        self.ratio = Histogram("tellmt_length_ratio", "Characters of a translation divided by its source's.", version, buckets=RATIOS, **common)
        self.seconds = Histogram("tellmt_translation_seconds", "Time of a request's translation, its wait included.", version, buckets=LATENCY, **common)
        self.languages = PrometheusCounter(
            "tellmt_input_language_segments", "Input looked at, by language: source, target, other.", ["pair", "language"], **common
        )
        self.letters = PrometheusCounter("tellmt_input_letters", "Letters of the input looked at.", ["pair"], **common)
        self.unknown = PrometheusCounter("tellmt_input_unknown_letters", "Of these, letters that the training data did not have.", ["pair"], **common)
        self.drift = Gauge("tellmt_input_drift_ratio", "Divergence of the input from the training data, over the last full window, 0 to 1.", ["pair"], **common)
        self.usual = Gauge("tellmt_input_drift_usual_ratio", "What 19 of 20 windows of the training data itself stay below.", ["pair"], **common)
        metrics.by_version += [self.answered, self.ratio, self.seconds]
        self._recent: deque[tuple[str, str, str]] = deque(maxlen=SAMPLED)
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._since = time.monotonic()
        self._profiles: dict[str, tuple[Profile, frozenset[str]]] = {}
        self._drifts: dict[str, Drift] = {}

    # Part of a request: counts alone.

    def note(self, pair: str, version: str, segment: str, translation: Checked) -> None:
        tally = self._tally(pair, version)
        ratio = len(translation.text) / max(1, len(segment))
        tally.segments += 1
        tally.tokens += translation.tokens
        tally.ratio += ratio
        self.answered.labels(pair, version).inc()
        self.ratio.labels(pair, version).observe(ratio)
        for flag in translation.flags:
            tally.flags[flag] += 1
            self.metrics.flagged.labels(pair, version, flag).inc()
        self._recent.append((pair, version, segment))

    def took(self, pair: str, version: str, seconds: float) -> None:
        self._tally(pair, version).times.append(seconds)
        self.seconds.labels(pair, version).observe(seconds)

    def _tally(self, pair: str, version: str) -> Tally:
        return self._tallies.setdefault((pair, version), Tally())

    # Between requests.

    def compare_with(self, profiles: Mapping[str, Profile]) -> None:
        """Set the profiles that the input of each pair is compared with."""
        for pair in self._profiles.keys() - profiles.keys():
            del self._profiles[pair]
            self._drifts.pop(pair, None)
        for pair, profile in profiles.items():
            if pair not in self._profiles or self._profiles[pair][0] != profile:
                self._profiles[pair] = profile, frozenset(profile.letters)
                self._drifts[pair] = Drift()
                if profile.usual is not None:
                    self.usual.labels(pair).set(profile.usual)

    async def look(self, waiting: Mapping[str, int]) -> None:
        """Sample the segments since the last call. `waiting`: segments that wait, by pair."""
        for (pair, _), tally in self._tallies.items():
            tally.waiting += waiting.get(pair, 0)
            tally.looks += 1
        batch = list(self._recent)
        self._recent.clear()
        if batch:
            await asyncio.to_thread(self._sample, batch)

    def _sample(self, batch: list[tuple[str, str, str]]) -> None:
        for pair, version, segment in batch:
            tally = self._tally(pair, version)
            if (language := language_of(pair, segment)) is not None:
                tally.languages[language] += 1
                self.languages.labels(pair, language).inc()
            if (profile_and_letters := self._profiles.get(pair)) is not None:
                unknown, letters = unknown_letters(segment, profile_and_letters[1])
                tally.unknown += unknown
                tally.letters += letters
                self.unknown.labels(pair).inc(unknown)
                self.letters.labels(pair).inc(letters)
        for pair in {p for p, _, _ in batch} & self._profiles.keys():
            self._add_to_window(pair, [segment for p, _, segment in batch if p == pair])

    def _add_to_window(self, pair: str, segments: list[str]) -> None:
        drift, profile = self._drifts[pair], self._profiles[pair][0]
        counts = trigrams(segments)
        drift.counts = counts if drift.counts is None else drift.counts + counts
        drift.size += int(counts.sum())
        if drift.size >= WINDOW:
            drift.last = divergence(drift.counts, profile.counts)
            self.drift.labels(pair).set(drift.last)
            drift.counts, drift.size = None, 0

    def now(self) -> list[tuple[str, str, dict[str, Any]]]:
        """(pair, version, summary) since the last `take`."""
        seconds = time.monotonic() - self._since
        return [(pair, version, tally.summary(seconds, *self._drift(pair))) for (pair, version), tally in sorted(self._tallies.items())]

    def _drift(self, pair: str) -> tuple[float | None, float | None]:
        profile_and_letters, drift = self._profiles.get(pair), self._drifts.get(pair)
        return drift.last if drift else None, profile_and_letters[0].usual if profile_and_letters else None

    def take(self) -> list[tuple[float, str, str, dict[str, Any]]]:
        """(time, pair, version, summary) since the last call; counting restarts. Versions without a segment are left out."""
        now = time.time()
        rows = [(now, pair, version, summary) for pair, version, summary in self.now() if summary["segments"]]
        self._tallies.clear()
        self._since = time.monotonic()
        return rows


def language_of(pair: str, text: str) -> str | None:
    """ "source", "target" or "other": the language of a text; None if it is too short to tell, or the model does not know the pair's source language."""
    parsed = parse_pair(pair)
    source_label = label(parsed.source.tag)
    if source_label is None or sum(map(str.isalpha, text)) <= LETTERS or not (probabilities := language_likelihoods(text)):
        return None
    likeliest = next(iter(probabilities))
    if likeliest == source_label or probabilities.get(source_label, 0.0) >= UNLIKELY:
        return "source"
    return "target" if likeliest == label(parsed.target.tag) else "other"
