"""A typed client of a running service. `import tellmt` is the public way to it."""

from tell.client.async_client import AsyncClient
from tell.client.client import Client
from tell.client.errors import NoAnswer, UnreadableAnswer
from tell.client.models import (
    AdapterStatus,
    Alternative,
    DetectedLanguage,
    DocumentJob,
    DocumentPart,
    DocumentProgress,
    Fallback,
    Quality,
    Segment,
    ServedLanguage,
    ServiceInfo,
    StreamEnd,
    Translation,
    TranslationPart,
    WordHint,
)
from tell.client.transport import RetryPolicy

__all__ = [
    "AdapterStatus", "Alternative", "AsyncClient", "Client", "DetectedLanguage", "DocumentJob", "DocumentPart", "DocumentProgress", "Fallback", "NoAnswer",
    "Quality", "RetryPolicy", "Segment", "ServedLanguage", "ServiceInfo", "StreamEnd", "Translation", "TranslationPart", "UnreadableAnswer", "WordHint",
]  # fmt: skip
