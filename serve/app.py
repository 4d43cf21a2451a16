"""The HTTP application: routes, the page, and the one place where errors become responses."""

from __future__ import annotations

import logging
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
from starlette.middleware.cors import CORSMiddleware

from serve.adapters.follower import Follower
from serve.api.adapters import routes as adapters_routes
from serve.api.admin import routes as admin_routes
from serve.api.deepl import other_versions as other_deepl_routes
from serve.api.deepl import routes as deepl_routes
from serve.api.deepl_errors import DEEPL_PATHS, DeepLErrors
from serve.api.deepl_glossaries import routes as deepl_glossaries_routes
from serve.api.documents import routes as documents_routes
from serve.api.events import routes as events_routes
from serve.api.feedback import routes as feedback_routes
from serve.api.handler import AppState, set_state, state_of
from serve.api.info import routes as info_routes
from serve.api.libretranslate import routes as libretranslate_routes
from serve.api.libretranslate_errors import LibreTranslateErrors
from serve.api.monitor import routes as monitor_routes
from serve.api.native import routes as native_routes
from serve.api.openapi import describe
from serve.api.stream import routes as stream_routes
from serve.auth.gate import KEY_IN_BODY, Gate, Keys, headers_of
from serve.auth.quota import Quota
from serve.config import WebConfig
from serve.corrections import Feedback
from serve.documents.jobs import JobLimits, Jobs
from serve.http.middleware import BodyLimit, HeadAsGet, HeadLimit, RequestObserver, UnderPath
from serve.http.origins import OriginGuard, cors_options
from serve.monitor import Monitor
from serve.translation.service import Service
from tell import __version__
from tell.errors import EngineError, LanguageError, NotServed, TellmtError
from tell.registry.glossaries import Glossaries

logger = logging.getLogger(__name__)

PAGE = Path(__file__).resolve().parent / "page"
RETRY = {"Retry-After": "2"}
NOT_READY = {
    "starting": "the service is still starting",
    "stopping": "the service is stopping",
    "down": "the engine is down",
    "empty": "no adapter can translate: none is live, or the live ones cannot be used",
}
METRICS_EXAMPLE = "# HELP tellmt_requests_in_flight Requests being answered now.\n# TYPE tellmt_requests_in_flight gauge\ntellmt_requests_in_flight 1.0\n"
# The form of a language code or a pair, as errors quote it. Anything else may be a text in the wrong field.
CODE = re.compile(r"'?[A-Za-z0-9:_-]{0,80}'?")
# The class of an exception, which engines put before its message.
EXCEPTION_CLASS = re.compile(r"[A-Za-z_.]{1,80}(?=: )")


def _error_response(status: int, message: str, /, headers: Mapping[str, str] | None = None, **fields: Any) -> JSONResponse:
    return JSONResponse({"error": message, **fields}, status, headers)


def _log_message(error: TellmtError) -> str:
    """The message for the log. An engine's error quotes a library, whose message may hold a text: only the exception's class is kept."""
    if not isinstance(error, EngineError):
        return str(error)
    name = EXCEPTION_CLASS.match(str(error.found))
    return str(TellmtError(error.thing, place=error.place, found=name[0] if name else None))


def _client_message(error: TellmtError) -> str:
    """The message for the client, without a value that may be a text in the wrong field."""
    if isinstance(error, LanguageError) and not CODE.fullmatch(str(error.found)):
        return str(TellmtError(error.thing, place=error.place, valid=error.valid))
    return str(error)


async def _tellmt_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, TellmtError):
        raise error
    if error.status >= 500:
        # The whole message may name paths of this machine: it goes to the log, and the client gets its first part.
        level = logging.ERROR if error.status == 500 else logging.WARNING
        logger.log(level, f"{error.status}: {_log_message(error)}", extra={"status": error.status})
        return _error_response(error.status, error.thing, headers_of(error))
    fields = {"pairs": state_of(request.app).service.pairs()} if isinstance(error, NotServed) else {}
    return _error_response(error.status, _client_message(error), headers_of(error), **fields)


async def _starlette_error(request: Request, error: Exception) -> Response:
    """What Starlette refuses by itself: unknown paths, methods that a path does not have."""
    if not isinstance(error, HTTPException):
        raise error
    messages = {404: "no such path", 405: "this path does not take this method"}
    response = _error_response(error.status_code, messages.get(error.status_code, str(error.detail)))
    response.headers.update(error.headers or {})
    return response


async def _validation_error(request: Request, error: Exception) -> Response:
    """FastAPI's own response would repeat the body."""
    return _error_response(400, "the request cannot be used")


class HealthResponse(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: Literal["ok"]


class ReadyResponse(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ready", "pairs": ["is-en"]}]})

    status: Literal["ready"]
    pairs: list[str]


def _add_operations(app: FastAPI, service: Service) -> None:
    @app.get("/health", summary="Show that the process answers", tags=["operation"])
    async def health() -> HealthResponse:
        return HealthResponse(status="ok")

    not_ready = {
        "description": "The service is not ready: `status` gives the reason",
        "content": {"application/json": {"example": {"error": NOT_READY["empty"], "status": "empty"}}},
    }

    @app.get("/ready", summary="Show whether the service translates", responses={200: {"model": ReadyResponse}, 503: not_ready}, tags=["operation"])
    async def ready() -> JSONResponse:
        """The status is 503 until an adapter is loaded, while the engine is down, and while the service stops."""
        state = await service.state()
        if state == "ready":
            return JSONResponse({"status": "ready", "pairs": service.pairs()})
        return _error_response(503, NOT_READY[state], RETRY, status=state)

    responses: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": METRICS_EXAMPLE}}}}

    @app.get("/metrics", summary="Show metrics, for Prometheus", tags=["operation"], response_class=PlainTextResponse, responses=responses)
    async def metrics() -> Response:
        from prometheus_client import CONTENT_TYPE_LATEST

        return Response(service.metrics.page(), media_type=CONTENT_TYPE_LATEST)


def _page_files(directory: Path) -> dict[str, Path]:
    """The files of the page, by their paths in the address."""
    files = [f for f in sorted(directory.iterdir()) if f.is_file() and not f.name.startswith(".")]
    # The page shows its status view when it is opened as /status.
    paths = {"index.html": ("/", "/status"), "docs.html": ("/docs",)}
    return {path: f for f in files for path in paths.get(f.name, (f"/{f.name}",))}


def _add_page(app: FastAPI, files: Mapping[str, Path]) -> None:
    """A route for each file of the page: no request can reach another file of the disk, and unknown paths keep their JSON responses."""

    def add(path: str, file: Path) -> None:
        async def send(request: Request) -> Response:
            if request.scope.get("tellmt.slash"):
                # The page's own links are relative, and would lead below it. This one needs no scheme.
                return Response(status_code=308, headers={"Location": f"..{path}"})
            return FileResponse(file, headers={"Cache-Control": "no-cache"})

        app.add_api_route(path, send, methods=["GET"], include_in_schema=False)

    for path, file in files.items():
        add(path, file)


def create_app(
    service: Service,
    follower: Follower,
    keys: Keys | None = None,
    quota: Quota | None = None,
    jobs: JobLimits | Jobs | None = None,
    feedback: Feedback | None = None,
    compare_base: bool = False,
    monitor: Monitor | None = None,
    web: WebConfig = WebConfig(),
) -> FastAPI:
    """The application over a service. The caller starts and closes the service, and runs the monitor of the application's state.

    Without `keys` the keys file decides. `jobs`: the documents, or the limits of those that are kept in this process. `compare_base` says whether callers
    may ask for the base without an adapter.
    """
    page, keys, quota = _page_files(PAGE), keys or Keys(), quota or Quota()
    if not isinstance(jobs, Jobs):
        jobs = Jobs(service, jobs, quota)
    layers = [
        Middleware(RequestObserver, metrics=service.metrics),
        Middleware(HeadAsGet),
        *((Middleware(CORSMiddleware, **cors_options(web)),) if web.origins else ()),
        Middleware(UnderPath, prefixes=DEEPL_PATHS, layer=DeepLErrors),
        Middleware(UnderPath, prefixes=tuple(sorted(KEY_IN_BODY)), layer=LibreTranslateErrors),
        Middleware(HeadLimit),
        Middleware(OriginGuard, web=web, keys=keys),
        Middleware(Gate, keys=keys, quota=quota, pages=frozenset(page)),
        Middleware(BodyLimit),
    ]
    app = FastAPI(
        title="tellmt",
        version=__version__,
        description="Translation by LoRA adapters, one per language pair.",
        # FastAPI's documentation pages load scripts from other servers.
        docs_url=None,
        redoc_url=None,
        # A redirect would name the scheme, which the service does not know behind a proxy.
        redirect_slashes=False,
        middleware=layers,
        exception_handlers={TellmtError: _tellmt_error, HTTPException: _starlette_error, RequestValidationError: _validation_error},
    )
    state = AppState(service, follower, monitor or Monitor(), jobs, Glossaries(follower.registry.store), feedback, compare_base, web)
    state.monitor.attach(service, follower)
    set_state(app, state)
    for routes in (
        native_routes, stream_routes, documents_routes, events_routes, feedback_routes, info_routes, adapters_routes, monitor_routes,
        libretranslate_routes, deepl_routes, deepl_glossaries_routes, other_deepl_routes,
    ):  # fmt: skip
        app.include_router(routes)
    _add_operations(app, service)
    app.include_router(admin_routes)
    _add_page(app, page)
    describe(app)
    return app
