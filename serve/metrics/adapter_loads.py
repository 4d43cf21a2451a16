"""Prometheus metrics of loading and unloading adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

# Seconds. vLLM loads a LoRA in tenths; a first conversion for ctranslate2 takes 14 or more.
SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)


class Loads:
    """Metrics in the service's own collector registry. Pairs are those of the adapters' registry, never names that a client sent."""

    def __init__(self, registry: CollectorRegistry):
        # On use: `tellmt serve --help` works without the serve extra.
        from prometheus_client import Counter, Gauge, Histogram

        self.loads = Counter("tellmt_adapter_loads", "Adapters loaded and proved, or not (outcome loaded, failed).", ["pair", "outcome"], registry=registry)
        self.seconds = Histogram("tellmt_adapter_load_seconds", "Time from the load's start to the proof's end.", buckets=SECONDS, registry=registry)
        self.evicted = Counter("tellmt_adapter_evictions", "Live versions unloaded because another pair needed the place.", ["pair"], registry=registry)
        self.resident = Gauge("tellmt_adapters_loaded", "Versions the engine holds, those that drain or are kept for a roll back included.", registry=registry)
