"""A typed client of a running service. `import tellmt` is the public way to it."""

from tell.client.async_client import AsyncClient
from tell.client.client import Client
from tell.client.errors import NoAnswer, ServiceFailed, UnreadableAnswer
from tell.client.models import (
    Alternative,
    DetectedLanguage,
    DocumentJob,
    DocumentPart,
    DocumentProgress,
    Fallback,
    PivotText,
    Quality,
    RouteStep,
    Segment,
    StreamEnd,
    Translation,
    TranslationPart,
    WordHint,
)
from tell.client.service_models import AdapterStatus, MonitorReport, Readiness, RegistryPair, ServedLanguage, ServiceInfo, ServiceLoad, ServiceStatus
from tell.client.transport import RetryPolicy

__all__ = [
    "AdapterStatus", "Alternative", "AsyncClient", "Client", "DetectedLanguage", "DocumentJob", "DocumentPart", "DocumentProgress", "Fallback",
    "MonitorReport", "NoAnswer", "PivotText", "Quality", "Readiness", "RegistryPair", "RetryPolicy", "RouteStep", "Segment", "ServedLanguage",
    "ServiceFailed", "ServiceInfo", "ServiceLoad", "ServiceStatus", "StreamEnd", "Translation", "TranslationPart", "UnreadableAnswer", "WordHint",
]  # fmt: skip
