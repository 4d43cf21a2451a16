"""Turn a small parallel corpus into a running translation service.

The names in `__all__` are the public API: a client of a running service, its records and exceptions, and what a package needs that brings an engine (entry
point of the group `tellmt.engines`) or a metric (`tellmt.metrics`). docs/api.md describes them. Everything else may change at any time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tell import __version__

if TYPE_CHECKING:
    from eval.scoring.metrics import SegmentMetric as Metric
    from tell.client.async_client import AsyncClient
    from tell.client.calls import StreamOptions, TranslateOptions
    from tell.client.client import Client
    from tell.client.errors import NoAnswer, ServiceFailed, UnreadableAnswer
    from tell.client.models import (
        Alternative,
        DetectedLanguage,
        DocumentJob,
        DocumentPart,
        DocumentProgress,
        PivotText,
        RouteStep,
        Segment,
        StreamEnd,
        Translation,
        TranslationPart,
        WordHint,
    )
    from tell.client.service_models import (
        AdapterStatus,
        MonitorReport,
        Readiness,
        RegistryPair,
        ServedLanguage,
        ServiceInfo,
        ServiceLoad,
        ServiceStatus,
    )
    from tell.client.transport import RetryPolicy
    from tell.errors import (
        AdapterError,
        BadInput,
        EngineError,
        KeyRefused,
        LanguageError,
        MissingExtra,
        NotFound,
        NotReady,
        NotServed,
        Overloaded,
        OverShare,
        RequestError,
        ScopeRefused,
        TellmtError,
        TimedOut,
        TooLarge,
        TooSlow,
    )
    from tell.model.base import Base
    from tell.model.engine import Engine, EngineOptions, EngineTraits, Generation, Prompt, Sampling

__all__ = [
    "AdapterError", "AdapterStatus", "Alternative", "AsyncClient", "BadInput", "Base", "Client", "DetectedLanguage", "DocumentJob", "DocumentPart",
    "DocumentProgress", "Engine", "EngineError", "EngineOptions", "EngineTraits", "Generation", "KeyRefused", "LanguageError", "Metric", "MissingExtra",
    "MonitorReport", "NoAnswer", "NotFound", "NotReady", "NotServed", "OverShare", "Overloaded", "PivotText", "Prompt", "Readiness", "RegistryPair",
    "RequestError", "RetryPolicy", "RouteStep", "Sampling", "ScopeRefused", "Segment", "ServedLanguage", "ServiceFailed", "ServiceInfo", "ServiceLoad",
    "ServiceStatus", "StreamEnd", "StreamOptions", "TellmtError", "TimedOut", "TooLarge", "TooSlow", "TranslateOptions", "Translation", "TranslationPart",
    "UnreadableAnswer", "WordHint", "__version__",
]  # fmt: skip

# module -> the public names it holds. They are imported when they are used, since the command line imports this module before anything else.
_MODULES = {
    "tell.client.async_client": "AsyncClient",
    "tell.client.calls": "StreamOptions TranslateOptions",
    "tell.client.client": "Client",
    "tell.client.errors": "NoAnswer ServiceFailed UnreadableAnswer",
    "tell.client.models": "Alternative DetectedLanguage DocumentJob DocumentPart DocumentProgress PivotText RouteStep Segment StreamEnd Translation "
    "TranslationPart WordHint",
    "tell.client.service_models": "AdapterStatus MonitorReport Readiness RegistryPair ServedLanguage ServiceInfo ServiceLoad ServiceStatus",
    "tell.client.transport": "RetryPolicy",
    "tell.errors": "AdapterError BadInput EngineError KeyRefused LanguageError MissingExtra NotFound NotReady NotServed OverShare Overloaded RequestError "
    "ScopeRefused TellmtError TimedOut TooLarge TooSlow",
    "tell.model.base": "Base",
    "tell.model.engine": "Engine EngineOptions EngineTraits Generation Prompt Sampling",
}
_HOMES = {name: (module, name) for module, names in _MODULES.items() for name in names.split()} | {"Metric": ("eval.scoring.metrics", "SegmentMetric")}

if not TYPE_CHECKING:
    # Hidden from type checkers, which would otherwise take any name for a public one.
    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'tellmt' has no attribute {name!r}")
        module, attribute = _HOMES[name]
        value = getattr(importlib.import_module(module), attribute)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
