"""The HTTP application: routes, the page, and the one place where errors become answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from serve.adapters.follower import Follower
from serve.api.adapters import routes as adapters_routes
from serve.api.admin import routes as admin_routes
from serve.api.deepl import routes as deepl_routes
from serve.api.deepl_errors import Dialect
from serve.api.documents import routes as documents_routes
from serve.api.events import routes as events_routes
from serve.api.feedback import routes as feedback_routes
from serve.api.info import routes as info_routes
from serve.api.libretranslate import routes as libretranslate_routes
from serve.api.monitor import routes as monitor_routes
from serve.api.native import routes as native_routes
from serve.api.openapi import describe
from serve.api.stream import routes as stream_routes
from serve.auth.gate import Gate, headers_of
from serve.auth.keys import Keys
from serve.auth.quota import Quota
from serve.corrections import Feedback
from serve.documents.jobs import JobLimits, Jobs
from serve.http.middleware import BodyLimit, Heads, Observe
from serve.monitor import Monitor
from serve.translation.service import Service
from tell import __version__
from tell.console import say
from tell.errors import EngineError, LanguageError, NotServed, TellmtError

PAGE = Path(__file__).resolve().parent / "page"
RETRY = {"Retry-After": "2"}
NOT_READY = {
    "starting": "the service is still starting",
    "stopping": "the service is stopping",
    "down": "the engine is down",
    "empty": "no adapter answers: none is live, or what is live cannot be used",
}
COUNTERS = "# HELP tellmt_requests_in_flight Requests being answered now.\n# TYPE tellmt_requests_in_flight gauge\ntellmt_requests_in_flight 1.0\n"
# What a language code or a pair can look like, as errors quote it. Anything else may be a text that came in the wrong field.
CODE = re.compile(r"'?[A-Za-z0-9:_-]{0,80}'?")
# The kind of an exception, as engines put it before its message.
KIND = re.compile(r"[A-Za-z_.]{1,80}(?=: )")


def _problem(status: int, message: str, /, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    return JSONResponse({"error": message, **more}, status, headers)


def _logged(error: TellmtError) -> str:
    """The message for the log. What an engine found may be a library's own words, and those may hold a text: only their kind is kept."""
    if not isinstance(error, EngineError):
        return str(error)
    kind = KIND.match(str(error.found))
    return str(TellmtError(error.thing, place=error.place, found=kind[0] if kind else None))


def _shown(error: TellmtError) -> str:
    if isinstance(error, LanguageError) and not CODE.fullmatch(str(error.found)):
        return str(TellmtError(error.thing, place=error.place, valid=error.valid))
    return str(error)


async def _ours(request: Request, error: Exception) -> Response:
    if not isinstance(error, TellmtError):
        raise error
    if error.status >= 500:
        # The whole message may name paths of this machine: it goes to the log, the client gets its first part.
        say(f"{error.status}: {_logged(error)}")
        return _problem(error.status, error.thing, headers_of(error))
    more = {"pairs": request.app.state.service.pairs()} if isinstance(error, NotServed) else {}
    return _problem(error.status, _shown(error), headers_of(error), **more)


async def _theirs(request: Request, error: Exception) -> Response:
    """What Starlette refuses by itself: unknown paths, methods a path does not have."""
    if not isinstance(error, HTTPException):
        raise error
    words = {404: "no such path", 405: "this path does not take this method"}
    response = _problem(error.status_code, words.get(error.status_code, str(error.detail)))
    response.headers.update(error.headers or {})
    return response


async def _invalid(request: Request, error: Exception) -> Response:
    """FastAPI's own answer would repeat the body."""
    return _problem(400, "the request cannot be used")


class Alive(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: Literal["ok"]


class Ready(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ready", "pairs": ["is-en"]}]})

    status: Literal["ready"]
    pairs: list[str]


def _operations(app: FastAPI, service: Service) -> None:
    @app.get("/health", summary="Whether the process answers", tags=["operation"])
    async def health() -> Alive:
        return Alive(status="ok")

    not_now = {"description": "Not now: `status` says why", "content": {"application/json": {"example": {"error": NOT_READY["empty"], "status": "empty"}}}}

    @app.get("/ready", summary="Whether translations are answered", responses={200: {"model": Ready}, 503: not_now}, tags=["operation"])
    async def ready() -> JSONResponse:
        """503 until an adapter answers, without an engine, and while stopping."""
        state = await service.state()
        if state == "ready":
            return JSONResponse({"status": "ready", "pairs": service.pairs()})
        return _problem(503, NOT_READY[state], RETRY, status=state)

    counters: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": COUNTERS}}}}

    @app.get("/metrics", summary="Counters for Prometheus", tags=["operation"], response_class=PlainTextResponse, responses=counters)
    async def metrics() -> Response:
        from prometheus_client import CONTENT_TYPE_LATEST

        return Response(service.metrics.page(), media_type=CONTENT_TYPE_LATEST)


def _pages(directory: Path) -> dict[str, Path]:
    """Paths and files of the page."""
    files = [f for f in sorted(directory.iterdir()) if f.is_file() and not f.name.startswith(".")]
    named = {"index.html": "/", "status.html": "/status"}
    return {named.get(f.name, f"/{f.name}"): f for f in files}


def _page(app: FastAPI, pages: Mapping[str, Path]) -> None:
    """Each file of the page a route of its own: nothing else of the disk can be asked for, and unknown paths stay JSON answers."""

    def add(path: str, file: Path) -> None:
        async def send() -> FileResponse:
            return FileResponse(file, headers={"Cache-Control": "no-cache"})

        app.add_api_route(path, send, methods=["GET", "HEAD"], include_in_schema=False)

    for path, file in pages.items():
        add(path, file)


def create_app(
    service: Service,
    follower: Follower,
    page: Path = PAGE,
    keys: Keys | None = None,
    quota: Quota | None = None,
    jobs: JobLimits | None = None,
    feedback: Feedback | None = None,
    compare_base: bool = False,
    monitor: Monitor | None = None,
) -> FastAPI:
    """The application over a service; starting and closing the service, and running `state.monitor`, is the caller's.

    `keys` are those of the keys file unless given; `compare_base`: whether callers may have the bare base's translations.
    """
    pages = _pages(page)
    gate = Middleware(Gate, keys=keys or Keys(), quota=quota or Quota(), pages=frozenset(pages))
    app = FastAPI(
        title="tellmt",
        version=__version__,
        description="Translation by LoRA adapters, one per language pair.",
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        middleware=[Middleware(Observe, metrics=service.metrics), Middleware(Dialect), Middleware(Heads), gate, Middleware(BodyLimit)],
        exception_handlers={TellmtError: _ours, HTTPException: _theirs, RequestValidationError: _invalid},
    )
    app.state.service, app.state.follower = service, follower
    app.state.monitor = monitor or Monitor()
    app.state.monitor.attach(service, follower)
    app.state.jobs, app.state.feedback, app.state.compare_base = Jobs(service, jobs), feedback, compare_base
    app.include_router(native_routes)
    app.include_router(stream_routes)
    app.include_router(documents_routes)
    app.include_router(events_routes)
    app.include_router(feedback_routes)
    app.include_router(info_routes)
    app.include_router(adapters_routes)
    app.include_router(monitor_routes)
    app.include_router(libretranslate_routes)
    app.include_router(deepl_routes)
    _operations(app, service)
    app.include_router(admin_routes)
    _page(app, pages)
    describe(app)
    return app
