"""The life of the `tellmt serve` process: it serves until a signal or the engine's death, ends in good order, and ends in any case.

On SIGTERM: /ready is off at once, requests are taken for a short grace in which a load balancer notices, then no connection is, what was
accepted is answered, and the engine is closed. Whatever hangs, the process is gone five seconds after its drain time.
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
FORCE, CLOSE = 4.5, 3.0
# Seconds that requests under way have when the engine is gone, and between two looks at whether it is.
DEAD_DRAIN, LOOK = 2.0, 0.25
# An engine that does not say how it is in this time is not well.
HEALTH = 5.0
# Seconds for connections that the kernel has taken and the loop has not, and for those whose request is still on its way.
LAST_ACCEPTED, LAST_HEADS = 0.05, 0.25
# sysexits.h: an internal software error. The supervisor is to start the service anew.
DIED = 70


def _children() -> list[int]:
    """The processes this one started, and theirs."""
    found: list[int] = []
    todo = [os.getpid()]
    while todo:
        for tasks in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                own = [int(pid) for pid in tasks.read_text().split()]
                found += own
                todo += own
    return found


def _kill_children() -> None:
    """So that an engine's processes do not outlive this one, which ends without closing the engine."""
    for pid in {*_children(), *(p.pid for p in multiprocessing.active_children() if p.pid)}:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _force(after: float, code: int) -> None:
    """End the process by force in `after` seconds, unless it has ended: from a thread, since the loop may hang too."""

    def end() -> None:
        logger.critical(f"ended by force: the engine did not end in time; exit {code}")
        _kill_children()
        os._exit(code)

    timer = threading.Timer(after, end)
    timer.daemon = True
    timer.start()


@contextlib.contextmanager
def _signals(told: Callable[[int], None]) -> Iterator[None]:
    """SIGTERM and SIGINT ask for an orderly end; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def at_once(number: int, frame: object) -> None:
        _kill_children()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def note(number: int) -> None:
        for n in numbers:
            loop.remove_signal_handler(n)
            signal.signal(n, at_once)
        told(number)

    for number in numbers:
        loop.add_signal_handler(number, note, number)
    yield


def _deaf(sock: socket.socket) -> None:
    """Let the kernel take no new connection on a listening socket: one that it has taken when the socket is closed would be reset, its request lost.

    Clients that knock now are refused a moment later. Linux only: a socket filter (socket(7), SO_ATTACH_FILTER) that keeps nothing.
    """
    nothing = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0), 8)
    with contextlib.suppress(OSError):
        if sys.platform == "linux":
            sock.setsockopt(socket.SOL_SOCKET, 26, struct.pack("@HP", 1, ctypes.addressof(nothing)))


def make_server(app: FastAPI, service: Service, protocol: type[Any] | None = None) -> Any:
    """uvicorn's server over the application of a service. `protocol`: that of uvicorn, with bounds unless it is given."""
    import uvicorn

    from serve.api.state import state_of
    from serve.http.connections import bounded

    class Server(uvicorn.Server):  # type: ignore[misc]
        """Ends in two steps: what was accepted is read first. Signals are handled here, not there: it would end the process by the signal."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def on_tick(self, counter: int) -> bool:
            over = bool(await super().on_tick(counter))
            if service.stopping:
                self.let_go()
            return over

        def let_go(self) -> None:
            """Answers from now on end their connection, so that kept ones are not cut off between two requests."""
            close = (b"connection", b"close")
            if close not in self.server_state.default_headers:
                self.server_state.default_headers = [*self.server_state.default_headers, close]

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            for sock in sockets or []:
                _deaf(sock)
            self.let_go()
            await asyncio.sleep(LAST_ACCEPTED)
            for server in self.servers:
                server.close()
            await asyncio.sleep(LAST_HEADS)
            # Nobody can fetch their results any more; and they would hold the engine up.
            await state_of(app).jobs.close()
            await super().shutdown(sockets)

    # `log_config` None: its loggers pass their records on to the service's own handler. Below `error` they tell of each client that sends nonsense.
    config = uvicorn.Config(
        app, http=protocol or bounded(), lifespan="off", log_config=None, log_level="error", access_log=False, server_header=False, ws="none"
    )
    return Server(config)


async def _healthy(service: Service) -> bool:
    try:
        return await asyncio.wait_for(service.engine.healthy(), HEALTH)
    except Exception:  # a driver that cannot even say so
        return False


async def _died(service: Service) -> None:
    """Return when the engine is gone. Requests are refused, and /ready is off, from then on."""
    while not service.down:
        await asyncio.sleep(LOOK)
        service.down = not await _healthy(service)


async def _first(*tasks: asyncio.Future[Any]) -> None:
    """Return when one is done, raising what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def run(server: Any, service: Service, follower: Follower, sock: socket.socket, listen: ListenConfig, announce: Callable[[], None]) -> int:
    """Serve until a signal or the engine's death. Returns the exit code; raises what kept the engine from starting."""
    from serve.api.state import state_of

    stop, got = asyncio.Event(), list[int]()

    loop = asyncio.get_running_loop()

    def told(number: int) -> None:
        got.append(number)
        # Here and now: /ready answers by it, and the server's next tick is up to a tenth of a second away.
        service.stopping = True
        server.let_go()
        stop.set()

    with _signals(told):
        serving = loop.create_task(server.serve(sockets=[sock]))
        ends: list[asyncio.Task[Any]] = [loop.create_task(stop.wait()), serving]
        begun: list[asyncio.Task[Any]] = [ends[0]]
        died: asyncio.Task[None] | None = None
        try:
            begun.append(loop.create_task(service.start()))
            await _first(begun[-1], *ends)
            if not any(task.done() for task in ends):
                died = loop.create_task(_died(service))
                ends.append(died)
                begun += [died, loop.create_task(follower.look())]
                await _first(begun[-1], *ends)
            if died and not any(task.done() for task in ends):
                announce()
                begun.append(loop.create_task(follower.run()))
                begun.append(loop.create_task(state_of(server.config.app).monitor.run()))
                await _first(begun[-2], *ends)
        finally:
            gone = died is not None and died.done() and not got
            code = DIED if gone else 1 if not got else 130 if got[0] == signal.SIGINT else 0
            seconds = DEAD_DRAIN if gone else listen.drain
            # Before anything that could go wrong.
            _force(seconds + FORCE, DIED)
            if gone:
                logger.critical(f"the engine has died: requests under way end with 503, and the service with exit {DIED}")
            elif got:
                logger.info("stopping: requests under way are finished first")
            for task in begun:
                task.cancel()
            await asyncio.gather(*begun, return_exceptions=True)
            await _end(service, follower, server, serving, seconds, min(listen.grace, listen.drain) if got[:1] == [signal.SIGTERM] else 0.0)
    return code


async def _end(service: Service, follower: Follower, server: Any, serving: asyncio.Task[Any], seconds: float, grace: float) -> None:
    """Answer what was accepted, for so many seconds; then close the engine, by which whatever is left is answered with 503."""
    until = time.monotonic() + seconds
    service.stopping = True
    # A service that answers nobody now has nobody to wait for.
    if service.started and not serving.done():
        await asyncio.sleep(grace)
    server.should_exit = True
    await asyncio.wait({serving}, timeout=max(0.0, until - time.monotonic()))
    if not serving.done() and not service.down:
        logger.warning(f"requests are left after {seconds:g} s; they end with 503")

    async def close() -> None:
        await follower.close()
        await service.close()

    closing = asyncio.create_task(close())
    await asyncio.wait({closing}, timeout=until + CLOSE - time.monotonic())
    await asyncio.wait({serving}, timeout=0.5)
    server.force_exit = True
    await asyncio.wait({serving}, timeout=0.5)
    if closing.done():
        return closing.result()
    _force(0.0, DIED)
