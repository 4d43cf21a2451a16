"""`tellmt serve`: the service as a process. Reads the registry, the shipped adapters and the base; writes nothing.

The port is taken before anything slow begins. The HTTP side is up while the engine still starts, so that /health and /ready can be
asked; on SIGTERM or Ctrl-C no new connection is taken, requests under way end, and the engine is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import signal
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from tell.bases import DEFAULT_BASE, find_base
from tell.cli import Command
from tell.console import emit, json_mode, say
from tell.engine import EngineOptions, choose_engine, open_engine
from tell.errors import TellmtError
from tell.extras import need
from tell.registry import Registry
from tell.shipped import NO_SHIPPED, Shipped, on_base, shipped_adapters

if TYPE_CHECKING:
    from serve.follow import Follower
    from serve.service import Service
from serve.versions import Limits

# Seconds that requests under way are given to end.
DRAIN = 30
CONTEXT = 4096


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises TellmtError naming the port when it is taken or may not be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as e:
        raise TellmtError("no such host", place="--host", found=f"{host} ({e})", valid="an address of this machine, such as 127.0.0.1") from None
    sock = socket.socket(family, kind, protocol)
    try:
        # A port that a service just left can be taken again at once.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1024)
    except OSError as e:
        sock.close()
        if e.errno == errno.EADDRINUSE:
            raise TellmtError(f"port {port} is in use", place=host, valid="another port, with --port, or 0 for any that is free") from None
        raise TellmtError(f"port {port} cannot be taken", place=host, found=e.strerror or str(e), valid="another --port or --host") from None
    return sock


def base_of(registry: Registry, shipped: Mapping[str, Shipped]) -> str:
    """The base that most live adapters were trained on, or else most shipped ones; the default base where there are none.

    Unreadable ones are left to be reported later.
    """
    bases: Counter[str] = Counter()
    for pair in registry.pairs():
        with contextlib.suppress(TellmtError, OSError):
            live = registry.state(pair).live
            if live is not None:
                bases[registry.card(live).base.id] += 1
    bases = bases or Counter(s.card.base.id for s in shipped.values())
    return min(bases, key=lambda b: (-bases[b], b)) if bases else DEFAULT_BASE


def url_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def _signals(stop: asyncio.Event, got: list[int]) -> Iterator[None]:
    """SIGTERM and SIGINT ask for an orderly end; a second one is left to end the process at once."""
    loop = asyncio.get_running_loop()

    def note(number: int) -> None:
        got.append(number)
        stop.set()
        for s in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(s)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, note, number)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _server(service: Service, follower: Follower, protocol: type[Any] | None = None, **access: Any) -> Any:
    """`access`: the keys and quotas of `serve.app.create_app`."""
    import uvicorn

    from serve.app import create_app
    from serve.connections import bounded

    class Server(uvicorn.Server):  # type: ignore[misc]
        """Signals are handled here, not there: it would end the process by the signal, past the engine's close."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    config = uvicorn.Config(
        create_app(service, follower, **access), http=protocol or bounded(), lifespan="off", log_level="error", access_log=False, server_header=False,
        timeout_graceful_shutdown=DRAIN, ws="none",
    )  # fmt: skip
    return Server(config)


def _announce(service: Service, follower: Follower, url: str) -> None:
    pairs = {pair: service.versions.live[pair].adapter.id for pair in service.pairs()}
    shown = ", ".join(f"{pair} {id[:12]}" for pair, id in pairs.items()) or "no pair is live yet"
    refused = {pair: f.reason for pair, f in follower.pairs.items() if pair not in pairs}
    emit({"url": url, "engine": service.engine.name, "base": service.base.id, "pairs": pairs, "refused": refused})
    say(f"ready: {url}, engine {service.engine.name}, base {service.base.id}, {shown}")


async def _first(*tasks: asyncio.Future[Any]) -> None:
    """Return when one is done, raising what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def _run(service: Service, follower: Follower, sock: socket.socket, **access: Any) -> int:
    """Serve until a signal. Returns the exit code; raises what kept the engine from starting."""
    stop, got = asyncio.Event(), list[int]()
    server = _server(service, follower, **access)
    loop = asyncio.get_running_loop()
    with _signals(stop, got):
        serving = loop.create_task(server.serve(sockets=[sock]))
        stopped = loop.create_task(stop.wait())
        tasks: list[asyncio.Task[Any]] = [stopped]
        try:
            for step in (service.start, follower.look):
                tasks.append(loop.create_task(step()))
                await _first(tasks[-1], stopped, serving)
                if stop.is_set() or serving.done():
                    break
            else:
                _announce(service, follower, url_of(sock))
                tasks.append(loop.create_task(follower.run()))
                await _first(tasks[-1], stopped, serving)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if got:
                say("stopping: requests under way are finished first")
            server.should_exit = True
            await asyncio.gather(serving, return_exceptions=True)
            await asyncio.shield(service.close())
    return 130 if got and got[0] == signal.SIGINT else 0


def _limits(max_adapters: int, max_rank: int, max_chars: int, context: int) -> Limits:
    from serve.versions import Limits

    # One more than live, for the new version during a change.
    return Limits(adapters=max_adapters + 1, rank=max_rank, context=context, characters=max_chars)


@click.command(cls=Command)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port to listen on; 0 takes any that is free.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on. Other than this machine's own it wants API keys: tellmt keys add.")
@click.option("--engine", default="auto", show_default=True, help="vllm, ct2, openai, or auto: vllm where there is a GPU.")
@click.option("--engine-url", default="", help="For --engine openai: the address of a vllm serve. Its key, if it wants one, is read from TELLMT_ENGINE_KEY.")
@click.option("--engine-path-map", default="", metavar="LOCAL=REMOTE", help="For --engine openai: where LOCAL lies on that server.")
@click.option("--base", default=None, help="Base model. Default: the one the live adapters were trained on.")
@click.option("--registry", default=None, help="Registry to follow: a directory, or the URL of an object store. Default: TELLMT_REGISTRY.")
@click.option("--threads", type=click.IntRange(0, 1024), default=0, show_default=True, help="CPU threads of the engine; 0 takes all.")
@click.option("--max-adapters", type=click.IntRange(1, 256), default=8, show_default=True, help="Pairs served at once.")
@click.option("--max-rank", type=click.IntRange(1, 256), default=16, show_default=True, help="Largest LoRA rank.")
@click.option("--max-chars", type=click.IntRange(1, 1_000_000), default=100_000, show_default=True, help="Characters of text in one request.")
@click.option("--max-waiting", type=click.IntRange(1, 1_000_000), default=4096, show_default=True, help="Segments that may wait, over all requests.")
@click.option("--timeout", type=click.FloatRange(0, 86_400, min_open=True), default=300, show_default=True, help="Seconds for one request, at most.")
@click.option("--cache-mb", type=click.IntRange(0, 1 << 20), default=32, show_default=True, help="MiB of translations kept in memory; 0 keeps none.")
@click.option("--quota-storage", default="memory://", show_default=True, help="Where the quotas of keys are counted: redis://HOST is shared by replicas.")
@NO_SHIPPED
def serve(
    port: int,
    host: str,
    engine: str,
    engine_url: str,
    engine_path_map: str,
    base: str | None,
    registry: str | None,
    threads: int,
    max_adapters: int,
    max_rank: int,
    max_chars: int,
    max_waiting: int,
    timeout: float,
    cache_mb: int,
    quota_storage: str,
    no_shipped: bool,
) -> int:
    """Serve the live adapters of the registry over HTTP.

    Follows the registry while it runs: what is published goes live without a restart. Pairs without a live version there are answered by
    the adapters that came with tellmt, as far as they are of the base that runs. The page is at /, the API at /api/v1, and
    LibreTranslate's clients find /translate and /languages.
    """
    name = choose_engine(engine)
    for module in ("fastapi", "uvicorn", "prometheus_client", "multipart", "limits"):
        need(module, "serve")
    from serve.follow import Follower
    from serve.keys import keys_for
    from serve.quota import Quota
    from serve.service import Service

    sock = bind(host, port)
    try:
        access = {"keys": keys_for(sock.getsockname()[0]), "quota": Quota(quota_storage)}
        found = Registry(registry)
        shipped = shipped_adapters(no_shipped)
        model = find_base(base or base_of(found, shipped))
        context = min(CONTEXT, model.context)
        there = {"url": engine_url, "path_map": engine_path_map}
        options = EngineOptions(base=model, max_adapters=max_adapters + 1, max_rank=max_rank, threads=threads, max_context=context, **there)
        if not json_mode():
            say(f"{url_of(sock)}: starting {name} with {model.id}; registry {found.place}")
        limits = _limits(max_adapters, max_rank, max_chars, context)
        limits = dataclasses.replace(limits, waiting=max_waiting, timeout=timeout, cache=cache_mb << 20, batch=options.max_batch)
        service = Service(open_engine(name, options), limits)
        return asyncio.run(_run(service, Follower(service, found, shipped=on_base(shipped, model)), sock, **access))
    finally:
        sock.close()
