"""Headers that requests of every API may send, and the response headers that name the translator.

X-Request-Timeout: SECONDS    the client waits so long for the response; the service's own limit is the maximum. As `timeout` in a native body.
Priority: u=7                 the request gives way to all others (RFC 9218: the urgency of work in the background).
Cache-Control: no-store       the cache neither answers this request nor stores its translations. As `cache: false` in a native body.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote

from starlette.requests import Request

from serve.adapters.versions import Version
from serve.auth.keys import Caller
from serve.metrics.registry import Metrics
from serve.translation.quality import Quality
from serve.translation.request import RequestOptions
from serve.translation.routing import Route
from serve.translation.service import Service
from tell.errors import RequestError, TimedOut

TIMEOUT = "X-Request-Timeout"
PRIORITY = "Priority"
_BACKGROUND = re.compile(r"(?:^|,)\s*u=7\s*(?:$|[,;])")
PARAMETERS = [
    {"name": TIMEOUT, "in": "header", "required": False, "description": "Seconds that the client waits for the response", "schema": {"type": "string"}},
    {
        "name": PRIORITY, "in": "header", "required": False,
        "description": "With u=7 the service translates everything else that waits first", "schema": {"type": "string"},
    },
    {"name": "Cache-Control", "in": "header", "required": False, "description": "no-store has the effect of `cache: false`", "schema": {"type": "string"}},
]  # fmt: skip
TRANSLATOR_HEADERS: dict[str, Any] = {
    "X-Tellmt-Pair": {"description": "The pair that translated", "schema": {"type": "string"}},
    "X-Tellmt-Adapter": {"description": "The id of the adapter that translated", "schema": {"type": "string"}},
    "X-Tellmt-Base": {"description": "The base of the adapter, percent-encoded where it is not plain ASCII", "schema": {"type": "string"}},
    "X-Tellmt-Quality": {"description": "fast or best: how each segment was decoded", "schema": {"type": "string"}},
    "X-Tellmt-Via": {
        "description": "Where the pair has no adapter: `pivot is-en=ID, en-fo=ID`, or `base`", "required": False, "schema": {"type": "string"}
    },
}  # fmt: skip


def ask_of(
    request: Request, service: Service, timeout: float | None = None, cache: bool = True, quality: Quality = "fast", alternatives: int = 0
) -> RequestOptions:
    """What the service grants a request, from its headers, its caller, and the fields of its body. Of two times the shorter counts. Raises RequestError."""
    seconds = min(service.limits.timeout, _timeout_header(request), timeout or math.inf)
    caller: Caller | None = request.scope.get("tellmt.caller")
    stored = cache and (caller is None or caller.cache) and "no-store" not in _directives(request)
    low = _BACKGROUND.search(request.headers.get(PRIORITY, "")) is not None
    ask = RequestOptions(caller.id if caller else "", seconds, asyncio.get_running_loop().time() + seconds, stored, quality, alternatives, background=low)
    return service.degraded_when_busy(ask)


def _timeout_header(request: Request) -> float:
    raw = request.headers.get(TIMEOUT)
    if raw is None:
        return math.inf
    try:
        seconds = float(raw)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise RequestError("not a time", place=TIMEOUT, valid="seconds, above 0")
    return seconds


def _directives(request: Request) -> set[str]:
    return {part.strip().lower() for part in request.headers.get("cache-control", "").split(",")}


def translator_headers(route: Route, versions: Sequence[Version], ask: RequestOptions) -> dict[str, str]:
    """The headers that name the translator: the versions of all steps, in order."""
    headers = {
        "X-Tellmt-Pair": route.pair,
        "X-Tellmt-Adapter": versions[-1].name,
        "X-Tellmt-Base": quote(versions[-1].adapter.card.base.id, safe="/:@+ "),
        "X-Tellmt-Quality": ask.quality,
    }
    if route.fallback:
        steps = " " + ", ".join(f"{v.pair}={v.name}" for v in versions) if route.fallback == "pivot" else ""
        headers["X-Tellmt-Via"] = f"{route.fallback}{steps}"
    return headers


@contextlib.asynccontextmanager
async def in_time(ask: RequestOptions, metrics: Metrics) -> AsyncIterator[None]:
    """Cancels the block at the request's deadline, and raises TimedOut."""
    try:
        async with asyncio.timeout_at(ask.deadline) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        metrics.timeouts.inc()
        raise TimedOut(f"the translation was not done in the {ask.seconds:g} s that the request has") from None
