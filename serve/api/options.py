"""What requests of every API may ask for besides a translation: less time, and no cache; and the headers that say who translated.

X-Request-Timeout: SECONDS    the answer is wanted within so many; the service's own limit is the most. As `timeout` in a native body.
Priority: u=7                 it gives way to all others (RFC 9218: the urgency of work in the background).
Cache-Control: no-store       the cache neither answers this request nor keeps what it made. As `cache: false` in a native body.
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
    {"name": TIMEOUT, "in": "header", "required": False, "description": "Seconds within which the answer is wanted", "schema": {"type": "string"}},
    {"name": PRIORITY, "in": "header", "required": False, "description": "u=7: after everything else that waits", "schema": {"type": "string"}},
    {"name": "Cache-Control", "in": "header", "required": False, "description": "no-store: as `cache: false`", "schema": {"type": "string"}},
]
NAMED: dict[str, Any] = {
    "X-Tellmt-Pair": {"description": "The pair that was translated", "schema": {"type": "string"}},
    "X-Tellmt-Adapter": {"description": "The id of the adapter that translated", "schema": {"type": "string"}},
    "X-Tellmt-Base": {"description": "The base of the adapter, percent-encoded where it is not plain ASCII", "schema": {"type": "string"}},
    "X-Tellmt-Quality": {"description": "fast or best: how hard it was tried for", "schema": {"type": "string"}},
    "X-Tellmt-Via": {
        "description": "Where the pair has no adapter: `pivot is-en=ID, en-fo=ID`, or `base`", "required": False, "schema": {"type": "string"}
    },
}  # fmt: skip


def ask_of(request: Request, timeout: float | None = None, cache: bool = True, quality: Quality = "fast", alternatives: int = 0) -> RequestOptions:
    """Who asks, and how, as far as the service has time for it; all else is of the body. Of two times the shorter counts. Raises RequestError."""
    service: Service = request.app.state.service
    seconds = min(service.limits.timeout, _header(request), timeout or math.inf)
    caller = request.scope.get("tellmt.caller")
    stored = cache and getattr(caller, "cache", True) and "no-store" not in _directives(request)
    low = _BACKGROUND.search(request.headers.get(PRIORITY, "")) is not None
    ask = RequestOptions(getattr(caller, "id", ""), seconds, asyncio.get_running_loop().time() + seconds, stored, quality, alternatives, background=low)
    return service.degraded_when_busy(ask)


def _header(request: Request) -> float:
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


def named(route: Route, by: Sequence[Version], ask: RequestOptions) -> dict[str, str]:
    """The headers that say who translated: the versions of all steps, in order."""
    made = {"X-Tellmt-Pair": route.pair, "X-Tellmt-Adapter": by[-1].name, "X-Tellmt-Base": quote(by[-1].adapter.card.base.id, safe="/:@+ ")}
    steps = " " + ", ".join(f"{v.pair}={v.name}" for v in by) if route.way == "pivot" else ""
    return {**made, "X-Tellmt-Quality": ask.quality, **({"X-Tellmt-Via": f"{route.way}{steps}"} if route.way else {})}


@contextlib.asynccontextmanager
async def in_time(ask: RequestOptions, metrics: Metrics) -> AsyncIterator[None]:
    """Raises TimedOut when the block is not done by the request's deadline, having cancelled it."""
    try:
        async with asyncio.timeout_at(ask.deadline) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        metrics.timeouts.inc()
        raise TimedOut(f"the translation was not done in the {ask.seconds:g} s that the request has") from None
