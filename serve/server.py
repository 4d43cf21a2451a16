"""Runs the `tellmt serve` process: it serves until a signal arrives or the engine dies, and shuts down in order and in bounded time.

On SIGTERM /ready fails at once. New requests are accepted for a short grace, in which a load balancer notices; then no connection is accepted,
the accepted requests are answered, and the engine is closed. Whatever hangs, the process ends five seconds after its drain time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve.config import ListenConfig

if TYPE_CHECKING:
    from fastapi import FastAPI

    from serve.adapters.follower import Follower
    from serve.translation.service import Service

logger = logging.getLogger(__name__)

# Seconds after the drain time until the process is ended by force, and until the engine must be closed.
FORCE, CLOSE_TIMEOUT = 4.5, 3.0
# Seconds that requests in progress have when the engine has died, and between two checks of its health.
DEAD_DRAIN, HEALTH_INTERVAL = 2.0, 0.25
# Seconds after which an engine that does not report its health counts as unhealthy.
HEALTH_TIMEOUT = 5.0
# Seconds for connections that the kernel has accepted and the loop has not, and for those whose request is still arriving.
LAST_ACCEPTED, LAST_HEADS = 0.05, 0.25
# Seconds at most that connections have which were accepted and have sent nothing yet: their clients may be far away, or on a busy machine.
FIRST_HEADS = 1.0
# EX_SOFTWARE of sysexits.h. The supervisor should restart the service.
DIED = 70


def _descendants() -> list[int]:
    """The ids of the processes that this one started, and of theirs."""
    pids: list[int] = []
    parents = [os.getpid()]
    while parents:
        for tasks in Path(f"/proc/{parents.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                children = [int(pid) for pid in tasks.read_text().split()]
                pids += children
                parents += children
    return pids


def _kill_descendants() -> None:
    """Kill the engine's processes, which would outlive this one when it ends without closing the engine."""
    for pid in {*_descendants(), *(p.pid for p in multiprocessing.active_children() if p.pid)}:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _end_by_force(after: float, code: int) -> None:
    """End the process by force in `after` seconds unless it has ended: from a thread, since the loop may hang too."""

    def end() -> None:
        logger.critical(f"ended by force: the engine did not end in time; exit {code}")
        _kill_descendants()
        os._exit(code)

    timer = threading.Timer(after, end)
    timer.daemon = True
    timer.start()


@contextlib.contextmanager
def _signals(on_signal: Callable[[int], None]) -> Iterator[None]:
    """Call `on_signal` on the first SIGTERM or SIGINT; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def second_signal(number: int, frame: object) -> None:
        _kill_descendants()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def first_signal(number: int) -> None:
        for n in numbers:
            loop.remove_signal_handler(n)
            signal.signal(n, second_signal)
        on_signal(number)

    for number in numbers:
        loop.add_signal_handler(number, first_signal, number)
    yield


def _refuse_new_connections(sock: socket.socket) -> None:
    """Stop the kernel from accepting connections on a listening socket: closing the socket would reset accepted ones and lose their requests.

    Clients that connect now are refused a moment later. Linux only: a socket filter (socket(7), SO_ATTACH_FILTER) that drops every packet.
    """
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0), 8)
    with contextlib.suppress(OSError):
        if sys.platform == "linux":
            sock.setsockopt(socket.SOL_SOCKET, 26, struct.pack("@HP", 1, ctypes.addressof(program)))


def make_server(app: FastAPI, service: Service, protocol: type[Any] | None = None) -> Any:
    """uvicorn's server over the application of a service. `protocol`: that of uvicorn, with bounds unless it is given."""
    import uvicorn

    from serve.api.handler import state_of
    from serve.http.connections import bounded

    class Server(uvicorn.Server):  # type: ignore[misc]
        """Shuts down in two steps, so that accepted requests are read first. This module handles signals: uvicorn would end the process by the signal."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def on_tick(self, counter: int) -> bool:
            ending = bool(await super().on_tick(counter))
            if service.stopping:
                self.close_connections()
            return ending

        def close_connections(self) -> None:
            """Let responses close their connection from now on, so that kept-alive ones are not cut off between two requests."""
            close = (b"connection", b"close")
            if close not in self.server_state.default_headers:
                self.server_state.default_headers = [*self.server_state.default_headers, close]

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            for sock in sockets or []:
                _refuse_new_connections(sock)
            self.close_connections()
            await asyncio.sleep(LAST_ACCEPTED)
            for server in self.servers:
                server.close()
            await asyncio.sleep(LAST_HEADS)
            end = time.monotonic() + FIRST_HEADS
            while time.monotonic() < end and any(getattr(c, "cycle", c) is None for c in self.server_state.connections):
                await asyncio.sleep(0.02)
            # Clients cannot fetch the results of jobs any more, and jobs would keep the engine busy.
            await state_of(app).jobs.close()
            await super().shutdown(sockets)

    # With `log_config` None uvicorn's records go to the service's own handler. Below `error` it logs every malformed request of a client.
    # Without trusted proxies uvicorn would believe X-Forwarded-* of this machine's own, and what FORWARDED_ALLOW_IPS says.
    proxies = list(state_of(app).web.proxies)
    config = uvicorn.Config(
        app, http=protocol or bounded(), lifespan="off", log_config=None, log_level="error", access_log=False, server_header=False, ws="none",
        proxy_headers=bool(proxies), forwarded_allow_ips=proxies,
    )  # fmt: skip
    return Server(config)


async def _engine_healthy(service: Service) -> bool:
    try:
        return await asyncio.wait_for(service.engine.healthy(), HEALTH_TIMEOUT)
    except Exception:  # a driver that cannot report its health is unhealthy
        return False


async def _engine_death(service: Service) -> None:
    """Return when the engine has died. From then on requests are refused and /ready fails."""
    while not service.down:
        await asyncio.sleep(HEALTH_INTERVAL)
        service.down = not await _engine_healthy(service)


async def _first_done(*tasks: asyncio.Future[Any]) -> None:
    """Return when one task is done; raise what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def run_service(server: Any, service: Service, follower: Follower, sock: socket.socket, listen: ListenConfig, announce: Callable[[], None]) -> int:
    """Serve until a signal arrives or the engine dies. Returns the exit code; raises the error that kept the engine from starting."""
    from serve.api.handler import state_of

    stop, signals_received = asyncio.Event(), list[int]()

    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        signals_received.append(number)
        # At once: /ready depends on it, and the server's next tick is up to a tenth of a second away.
        service.stopping = True
        server.close_connections()
        stop.set()

    documents: asyncio.Task[None] | None = None
    with _signals(on_signal):
        serving = loop.create_task(server.serve(sockets=[sock]))
        ending: list[asyncio.Task[Any]] = [loop.create_task(stop.wait()), serving]
        tasks: list[asyncio.Task[Any]] = [ending[0]]
        death: asyncio.Task[None] | None = None
        try:
            tasks.append(loop.create_task(service.start()))
            await _first_done(tasks[-1], *ending)
            if not any(task.done() for task in ending):
                death = loop.create_task(_engine_death(service))
                ending.append(death)
                tasks += [death, loop.create_task(follower.look())]
                await _first_done(tasks[-1], *ending)
            if death and not any(task.done() for task in ending):
                announce()
                state = state_of(server.config.app)
                documents = loop.create_task(state.jobs.run())
                tasks.append(loop.create_task(follower.run()))
                tasks.append(loop.create_task(state.monitor.run()))
                await _first_done(tasks[-2], *ending)
        finally:
            engine_died = death is not None and death.done() and not signals_received
            exit_code = DIED if engine_died else 1 if not signals_received else 130 if signals_received[0] == signal.SIGINT else 0
            drain = DEAD_DRAIN if engine_died else listen.drain
            # First, since anything after it may hang.
            _end_by_force(drain + FORCE, DIED)
            if engine_died:
                logger.critical(f"the engine has died: requests in progress get 503, and the service ends with exit {DIED}")
            elif signals_received:
                logger.info("stopping: requests in progress are answered first")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await _shut_down(service, follower, server, serving, drain, min(listen.grace, listen.drain) if signals_received[:1] == [signal.SIGTERM] else 0.0)
            state_of(server.config.app).jobs.workers.close()
            if documents is not None:
                documents.cancel()
    return exit_code


async def _shut_down(service: Service, follower: Follower, server: Any, serving: asyncio.Task[Any], drain: float, grace: float) -> None:
    """Answer accepted requests for `drain` seconds, of which new ones are accepted for `grace`; then close the engine, so that the rest get 503."""
    deadline = time.monotonic() + drain
    service.stopping = True
    # A service that has not started has no requests to wait for.
    if service.started and not serving.done():
        await asyncio.sleep(grace)
    server.should_exit = True
    await asyncio.wait({serving}, timeout=max(0.0, deadline - time.monotonic()))
    if not serving.done() and not service.down:
        logger.warning(f"requests are left after {drain:g} s; they get 503")

    async def close() -> None:
        await follower.close()
        await service.close()

    closing = asyncio.create_task(close())
    await asyncio.wait({closing}, timeout=deadline + CLOSE_TIMEOUT - time.monotonic())
    await asyncio.wait({serving}, timeout=0.5)
    server.force_exit = True
    await asyncio.wait({serving}, timeout=0.5)
    if closing.done():
        return closing.result()
    _end_by_force(0.0, DIED)
