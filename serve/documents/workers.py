"""Files of strangers, read and written in processes of their own (serve.documents.worker_process), so that no file can stop or fill the service.

A process is started by the first document, takes one after the other, and ends when none has come for a while. It gets the file and gives back its parts,
never an object that this process would have to trust.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from serve.documents.parts import Document, File, Text, ending_of, open_document, segments_of
from serve.documents.worker_process import NO_MEMORY, Message, decoded, encoded, receive, send
from serve.formats import BY_ENDING
from serve.formats.structure import kind_by_whole_name
from serve.logs import where
from tell import errors
from tell.errors import EngineError, Overloaded, RequestError, TellmtError, TooLarge
from tell.languages import LanguagePair

logger = logging.getLogger(__name__)

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from serve.documents.worker_process import main; main()"
# What a worker sees of the environment: no key and no setting of the service.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT", "PYTHONHASHSEED", "PYTHONUTF8")
# Errors that a worker may report, by their names.
_KINDS = {name: getattr(errors, name) for name in ("BadInput", "CorpusError", "LanguageError", "MissingExtra", "RequestError", "TellmtError", "TooLarge")}


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerLimits:
    # Processes, and those that one caller may have: the others wait.
    processes: int = 2
    per_caller: int = 1
    # Seconds that a process may compute to read a document, and bytes of memory that it may have.
    seconds: float = 10.0
    memory: int = 512 << 20
    # Seconds that this may take on a busy machine, and after which a process without work ends.
    patience: float = 60.0
    idle: float = 60.0


class _Worker:
    """A process that is started when it is first asked."""

    def __init__(self, limits: WorkerLimits):
        self.limits = limits
        self.over: str | None = None
        # When its last document was done, in the loop's time.
        self.idle_since = 0.0
        self._busy = False
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def ask(self, header: dict[str, object], blobs: Sequence[bytes]) -> Message:
        """The answer of the process. Raises EOFError where it ended instead: `over` says of what it took too much, if that is known."""
        process = self._running()
        assert process.stdin and process.stdout
        timer = threading.Timer(self.limits.patience, self.end, ["patience"])
        timer.daemon = True
        timer.start()
        try:
            send(process.stdin, header, blobs)
            answer = receive(process.stdout)
        except (EOFError, OSError, ValueError):
            try:
                code = process.wait(1)
            except subprocess.TimeoutExpired:
                process.kill()
                code = 0
            self.over = self.over or {-signal.SIGPROF: "time", -signal.SIGKILL: "memory", NO_MEMORY: "memory"}.get(code) if os.name == "posix" else self.over
            self._busy = False
            self.end()
            raise EOFError from None
        finally:
            timer.cancel()
            self._busy = False
        if answer[0].get("last", True):
            self.end()
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._ended:
                raise EOFError
            self._busy = True
            if self._process is None:
                environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
                command = [sys.executable, "-P", "-c", _START, json.dumps(sys.path), str(self.limits.memory)]
                # What it writes to standard error may quote a text.
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
            return self._process

    @property
    def ended(self) -> bool:
        return self._ended

    def end(self, over: str | None = None) -> None:
        """End the process at once, and for good."""
        with self._lock:
            self._ended, self.over = True, self.over or over
            process = self._process
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            # Those of a thread that is in the middle of a document are closed by that thread.
            if pipe and not self._busy:
                with contextlib.suppress(OSError):
                    pipe.close()


@dataclasses.dataclass(slots=True)
class _Turns:
    semaphore: asyncio.Semaphore
    users: int = 0


class DocumentWorkers:
    def __init__(self, limits: WorkerLimits | None = None):
        self.limits = limits or WorkerLimits()
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._turns: dict[str, _Turns] = {}
        self._processes = asyncio.Semaphore(self.limits.processes)
        # Threads that wait for a process each; one more takes apart plain text.
        self._threads = ThreadPoolExecutor(self.limits.processes + 1, thread_name_prefix="documents")
        self._closed = False

    def pids(self) -> list[int]:
        """The processes that there are."""
        return [worker.pid for worker in self._all if worker.pid is not None]

    async def read(self, caller: str, name: str, raw: bytes, pair: LanguagePair, characters: int, lines: int) -> Document:
        """`serve.documents.parts.open_document`. Plain text has no parser, and is taken apart by a thread of this process.

        Raises what `open_document` does, TooLarge for a file that takes more than the limits, Overloaded, EngineError while the service ends.
        """
        self._check_open()
        if (ending := ending_of(name)) not in BY_ENDING or ending == ".txt" or not BY_ENDING[ending].without_options or kind_by_whole_name(name):
            return await asyncio.get_running_loop().run_in_executor(self._threads, open_document, name, raw, pair, characters, lines)
        header = {"do": "read", "ending": ending, "pair": str(pair), "characters": characters, "lines": lines, "seconds": self.limits.seconds}
        answer, parts = await self._ask(caller, header, [raw])
        return File(raw, pair, tuple(map(decoded, parts)), ending, tuple(answer["notes"]))

    async def filled(self, caller: str, document: Document, translations: Sequence[str]) -> bytes:
        """The document with the translations of its parts, in order. Raises as `read`; but what could be read has twice the time to be written."""
        if isinstance(document, Text):
            return document.filled(translations)
        assert isinstance(document, File)
        segments = "\n".join(segments_of(document.parts, translations))
        header = {"do": "write", "ending": document.ending, "pair": str(document.pair), "seconds": 2 * self.limits.seconds}
        _, [result] = await self._ask(caller, header, [document.raw, encoded(segments)])
        return result

    @contextlib.asynccontextmanager
    async def _turn(self, caller: str) -> AsyncIterator[None]:
        """A caller's turn at a process: callers do not wait for one another's documents as long as there is a process for each."""
        turns = self._turns.setdefault(caller, _Turns(asyncio.Semaphore(self.limits.per_caller)))
        turns.users += 1
        try:
            async with turns.semaphore, self._processes:
                yield
        finally:
            turns.users -= 1
            if not turns.users:
                self._turns.pop(caller, None)

    async def _ask(self, caller: str, header: dict[str, object], blobs: Sequence[bytes]) -> Message:
        async with self._turn(caller):
            self._check_open()
            worker = self._idle.pop() if self._idle else _Worker(self.limits)
            self._all.add(worker)
            loop = asyncio.get_running_loop()
            try:
                answer = await loop.run_in_executor(self._threads, worker.ask, header, blobs)
            except EOFError:
                raise self._over(worker.over) from None
            except OSError as e:
                worker.end("nobody")
                logger.error(f"no process to read a document: {where(e)}")
                raise Overloaded("documents cannot be read at the moment") from None
            except BaseException:
                # Nobody waits for its answer any more.
                worker.end("nobody")
                raise
            finally:
                if worker.ended or self._closed:
                    self._all.discard(worker)
                else:
                    self._idle.append(worker)
                    worker.idle_since = loop.time()
                    loop.call_later(self.limits.idle, self._end_idle, worker)
        reply = answer[0]
        if "unexpected" in reply:
            logger.error(f"unexpected {reply['unexpected']}, in a document")
            raise RequestError("the file cannot be read", place="file", valid="a file that is what its name says")
        if error := reply.get("error"):
            raise _KINDS.get(error["kind"], TellmtError)(error["thing"], place=error["place"], found=error["found"], valid=error["valid"])
        return answer

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the service is stopping")

    def _over(self, over: str | None) -> TellmtError:
        if self._closed:
            return EngineError("the service is stopping")
        if over == "time":
            return TooLarge("the file takes too long to read", place="file", valid=f"at most {self.limits.seconds:g} s of computing")
        if over == "memory":
            return TooLarge("the file takes too much memory to read", place="file", valid=f"at most {self.limits.memory >> 20} MiB")
        if over == "patience":
            return Overloaded("the machine is too busy to read documents", retry_after=30)
        return RequestError("the file cannot be read", place="file", found="its reader ended", valid="a file that is what its name says")

    def _end_idle(self, worker: _Worker) -> None:
        """End a process that has had no work meanwhile; one that had is looked at again."""
        if worker in self._idle and asyncio.get_running_loop().time() - worker.idle_since > 0.99 * self.limits.idle:
            self._idle.remove(worker)
            self._all.discard(worker)
            worker.end()

    def close(self) -> None:
        """End all processes."""
        self._closed = True
        for worker in list(self._all):
            worker.end("nobody")
        self._idle.clear()
        self._all.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)
