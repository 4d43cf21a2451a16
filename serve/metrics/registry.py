"""What the service counts, for Prometheus. No text, and no label a client can make up: routes, statuses, served pairs and their versions."""

from __future__ import annotations

import asyncio
from collections import deque

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# Seconds. A sentence takes a few tenths on a CPU, a long document minutes.
LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# Unloaded versions that are looked for again when the next one goes.
LATE = 32


def _tasks() -> float:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0.0  # asked outside of a loop


class Metrics:
    """One service's own registry of counters, so that two services in a process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        kept = {"registry": self.registry}
        version = ["pair", "version"]
        self.requests = Counter("tellmt_requests", "Requests answered.", ["route", "status", *version], **kept)
        self.latency = Histogram("tellmt_request_seconds", "Time from the request's head to the answer's end.", ["route"], buckets=LATENCY, **kept)
        self.in_flight = Gauge("tellmt_requests_in_flight", "Requests being answered now.", **kept)
        self.waiting = Gauge("tellmt_segments_waiting", "Segments admitted and not translated yet.", **kept)
        self.in_engine = Gauge("tellmt_segments_in_engine", "Segments that the engine has been given.", **kept)
        self.pair_waiting = Gauge("tellmt_pair_segments_waiting", "Segments admitted and not translated yet, by pair.", ["pair"], **kept)
        self.oldest = Gauge("tellmt_oldest_wait_seconds", "How long the segment has waited that the engine was longest not given.", **kept)
        self.refused = Counter("tellmt_segments_refused", "Segments refused because too many were waiting.", **kept)
        self.refusals = Counter("tellmt_requests_refused", "Requests not let in: full, share (of a key), late (for their time).", ["reason"], **kept)
        self.timeouts = Counter("tellmt_requests_timed_out", "Requests whose time was over before their translation was done.", **kept)
        self.cache_hits = Counter("tellmt_cache_hits", "Segments answered from the cache.", **kept)
        self.shared = Counter("tellmt_shared_segments", "Segments that another one's decode answered.", **kept)
        self.cache_evictions = Counter("tellmt_cache_evictions", "Translations the cache gave up for newer ones.", **kept)
        self.cache_bytes = Gauge("tellmt_cache_bytes", "Bytes of translations kept.", **kept)
        self.segments = Counter("tellmt_segments", "Segments translated, each try counted.", version, **kept)
        self.characters = Counter("tellmt_source_characters", "Characters of the segments translated.", version, **kept)
        self.tokens = Counter("tellmt_output_tokens", "Tokens the engine made.", version, **kept)
        self.truncated = Counter("tellmt_truncated_segments", "Translations cut at their token limit, each try counted.", version, **kept)
        self.flagged = Counter("tellmt_flagged_segments", "Segments answered with a flag, after all tries.", [*version, "flag"], **kept)
        self.mended = Counter(
            "tellmt_mended_segments", "Flagged segments: clean, better or same after more tries, or busy: none made.", ["pair", "outcome"], **kept
        )
        self.best = Counter("tellmt_best_requests", "Requests, and parts of documents, for quality best, by the quality they got.", ["quality"], **kept)
        self.chosen = Counter(
            "tellmt_best_segments", "Segments of quality best, by the candidate that was chosen: greedy, or drawn.", ["pair", "chosen"], **kept
        )
        self.live = Gauge("tellmt_adapter_live", "1 for the version that answers for a pair.", version, **kept)
        self.swaps = Counter("tellmt_adapter_changes", "Versions that went live or were refused.", ["pair", "outcome"], **kept)
        self.tasks = Gauge("tellmt_asyncio_tasks", "Tasks of the event loop that asks: a number that only grows is a leak.", **kept)
        self.tasks.set_function(_tasks)
        # Those that are labelled by version, and the versions that left: what was loaded once must not be told for ever.
        self.by_version: list[Counter | Gauge | Histogram] = [self.requests, self.segments, self.characters, self.tokens, self.truncated, self.flagged]
        self._gone: deque[str] = deque(maxlen=LATE)

    def forget(self, version: str) -> None:
        """The version is unloaded: its series end. So do those of the ones before, since a request that ends late may have brought one back."""
        self._gone.append(version)
        for metric in self.by_version:
            for gone in self._gone:
                metric.remove_by_labels({"version": gone})

    def page(self) -> bytes:
        text: bytes = generate_latest(self.registry)
        return text
