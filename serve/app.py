"""The HTTP application: routes, the page, and the one place where errors become answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from serve import api_libre, api_native, api_status
from serve.follow import Follower
from serve.guards import BodyLimit, Observe
from serve.service import Service
from tell import __version__
from tell.console import say
from tell.errors import NotServed, TellmtError

PAGE = Path(__file__).resolve().parent / "page"
# Seconds after which to ask again, told with every 503.
RETRY_AFTER = "2"


def _problem(status: int, message: str, /, **more: Any) -> JSONResponse:
    headers = {"Retry-After": RETRY_AFTER} if status == 503 else None
    return JSONResponse({"error": message, **more}, status, headers)


async def _ours(request: Request, error: Exception) -> Response:
    if not isinstance(error, TellmtError):
        raise error
    if error.status >= 500:
        # The whole message may name paths of this machine: it goes to the log, the client gets its first part.
        say(f"{error.status}: {error}")
        return _problem(error.status, error.thing)
    more = {"pairs": request.app.state.service.pairs()} if isinstance(error, NotServed) else {}
    return _problem(error.status, str(error), **more)


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


def _operations(app: FastAPI, service: Service) -> None:
    @app.get("/health", summary="Whether the process answers", tags=["operation"])
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready", summary="Whether translations are answered: 503 until the engine is up and the registry was read", tags=["operation"])
    async def ready() -> JSONResponse:
        if await service.ready():
            return JSONResponse({"status": "ready", "pairs": service.pairs()})
        if service.started and service.looked:
            return _problem(503, "the engine is down", status="down")
        return _problem(503, "the service is still starting", status="starting")

    @app.get("/metrics", summary="Counters for Prometheus", tags=["operation"])
    async def metrics() -> Response:
        from prometheus_client import CONTENT_TYPE_LATEST

        return Response(service.metrics.page(), media_type=CONTENT_TYPE_LATEST)


def _page(app: FastAPI, directory: Path) -> None:
    """Each file of the page a route of its own: nothing else of the disk can be asked for, and unknown paths stay JSON answers."""

    def add(path: str, file: Path) -> None:
        async def send() -> FileResponse:
            return FileResponse(file, headers={"Cache-Control": "no-cache"})

        app.add_api_route(path, send, methods=["GET", "HEAD"], include_in_schema=False)

    for file in sorted(directory.iterdir()):
        if file.is_file() and not file.name.startswith("."):
            add("/" if file.name == "index.html" else f"/{file.name}", file)


def create_app(service: Service, follower: Follower, page: Path = PAGE) -> FastAPI:
    """The application over a service; starting and closing the service is the caller's."""
    app = FastAPI(
        title="tellmt",
        version=__version__,
        description="Translation by LoRA adapters, one per language pair.",
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        middleware=[Middleware(Observe, metrics=service.metrics), Middleware(BodyLimit)],
        exception_handlers={TellmtError: _ours, HTTPException: _theirs, RequestValidationError: _invalid},
    )
    app.state.service, app.state.follower = service, follower
    app.include_router(api_native.routes)
    app.include_router(api_status.routes)
    app.include_router(api_libre.routes)
    _operations(app, service)
    _page(app, page)
    return app
