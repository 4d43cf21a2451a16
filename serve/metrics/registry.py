"""The service's Prometheus metrics. They have no text, and no label value that a client can choose: only routes, statuses, served pairs and versions."""

from __future__ import annotations

import asyncio
from collections import deque

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# Seconds. A sentence takes a few tenths on a CPU, a long document minutes.
LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# Unloaded versions whose series are removed again when the next one is unloaded.
REMEMBERED = 32


def _task_count() -> float:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0.0  # called outside of a loop


class Metrics:
    """The metrics of one service in a collector registry of its own, so that two services in a process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        common = {"registry": self.registry}
        version = ["pair", "version"]
        self.requests = Counter("tellmt_requests", "Requests answered.", ["route", "status", *version], **common)
        self.latency = Histogram("tellmt_request_seconds", "Time from the request's head to the answer's end.", ["route"], buckets=LATENCY, **common)
        self.in_flight = Gauge("tellmt_requests_in_flight", "Requests being answered now.", **common)
        self.waiting = Gauge("tellmt_segments_waiting", "Segments admitted and not translated yet.", **common)
        self.in_engine = Gauge("tellmt_segments_in_engine", "Segments that the engine is translating.", **common)
        self.pair_waiting = Gauge("tellmt_pair_segments_waiting", "Segments admitted and not translated yet, by pair.", ["pair"], **common)
        self.oldest = Gauge("tellmt_oldest_wait_seconds", "The longest time that a waiting segment has waited for the engine.", **common)
        self.refused = Counter("tellmt_segments_refused", "Segments refused because too many waited.", **common)
        self.refusals = Counter("tellmt_requests_refused", "Requests refused: full (queue), share (of a key), late (for their time).", ["reason"], **common)
        self.timeouts = Counter("tellmt_requests_timed_out", "Requests whose time ended before their translation was done.", **common)
        self.cache_hits = Counter("tellmt_cache_hits", "Segments answered from the cache.", **common)
        self.shared = Counter("tellmt_shared_segments", "Segments answered by the decode of an equal segment.", **common)
        self.cache_evictions = Counter("tellmt_cache_evictions", "Translations evicted from the cache for newer ones.", **common)
        self.cache_bytes = Gauge("tellmt_cache_bytes", "Bytes of translations kept.", **common)
        self.segments = Counter("tellmt_segments", "Segments translated, each try counted.", version, **common)
        self.characters = Counter("tellmt_source_characters", "Characters of the segments translated.", version, **common)
        self.tokens = Counter("tellmt_output_tokens", "Tokens that the engine generated.", version, **common)
        self.truncated = Counter("tellmt_truncated_segments", "Translations cut at their token limit, each try counted.", version, **common)
        self.flagged = Counter("tellmt_flagged_segments", "Segments answered with a flag, after all tries.", [*version, "flag"], **common)
        self.mended = Counter(
            "tellmt_mended_segments", "Flagged segments: clean, better or same after more tries, or busy: none made.", ["pair", "outcome"], **common
        )
        self.best = Counter("tellmt_best_requests", "Requests, and parts of documents, for quality best, by the quality they got.", ["quality"], **common)
        self.chosen = Counter(
            "tellmt_best_segments", "Segments of quality best, by the candidate that was chosen: greedy, or drawn.", ["pair", "chosen"], **common
        )
        self.live = Gauge("tellmt_adapter_live", "1 for the version that answers for a pair.", version, **common)
        self.swaps = Counter("tellmt_adapter_changes", "Versions that went live or were refused.", ["pair", "outcome"], **common)
        self.tasks = Gauge("tellmt_asyncio_tasks", "Tasks of the event loop; a number that only grows is a leak.", **common)
        self.tasks.set_function(_task_count)
        # The metrics with the label version, and the unloaded versions: series of a version end when it is unloaded.
        self.by_version: list[Counter | Gauge | Histogram] = [self.requests, self.segments, self.characters, self.tokens, self.truncated, self.flagged]
        self._unloaded: deque[str] = deque(maxlen=REMEMBERED)

    def forget(self, version: str) -> None:
        """Remove the series of an unloaded version, and again those of earlier ones, since a request that ended late may have created one anew."""
        self._unloaded.append(version)
        for metric in self.by_version:
            for unloaded in self._unloaded:
                metric.remove_by_labels({"version": unloaded})

    def page(self) -> bytes:
        text: bytes = generate_latest(self.registry)
        return text
