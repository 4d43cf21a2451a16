"""The process that reads and writes the files of strangers: one document at a time, with limits that the operating system holds, and with nothing to lose.

Reads requests from standard input and writes answers to standard output, until the input ends: a line of JSON each, which names the sizes of the byte strings
behind it. It has no socket, no key and no model. What a file costs too much of ends this process (SIGPROF for time, NO_MEMORY for memory), and
serve.documents.workers starts another one. Imports nothing of the service, so that it starts in a fraction of a second.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import IO, Any

from serve.documents.parts import open_document, write_file
from serve.logs import where
from tell.errors import TellmtError
from tell.languages import parse_pair

# Bytes of memory after a document from which on the process ends, and the next document gets a fresh one.
GROWN = 160 << 20
# The exit code of a process that was given no more memory.
NO_MEMORY = 3
_PR_SET_PDEATHSIG = 1

Message = tuple[dict[str, Any], list[bytes]]


def send(stream: IO[bytes], header: dict[str, Any], blobs: Sequence[bytes]) -> None:
    stream.write(json.dumps({**header, "sizes": list(map(len, blobs))}).encode() + b"\n")
    stream.writelines(blobs)
    stream.flush()


def receive(stream: IO[bytes]) -> Message:
    """Raises EOFError where the other side has ended."""
    if not (line := stream.readline()).endswith(b"\n"):
        raise EOFError
    header = json.loads(line)
    blobs = [stream.read(size) for size in header["sizes"]]
    if any(len(blob) != size for blob, size in zip(blobs, header["sizes"], strict=True)):
        raise EOFError
    return header, blobs


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def decoded(blob: bytes) -> str:
    return blob.decode("utf-8", "surrogatepass")


def _answer(header: dict[str, Any], blobs: list[bytes]) -> Message:
    """The parts of a file; or, where the request has the translations of its segments, the file made of them."""
    pair = parse_pair(header["pair"])
    if header["do"] == "read":
        document = open_document("document" + header["ending"], blobs[0], pair, header["characters"], header["lines"])
        return {"notes": list(document.notes)}, list(map(encoded, document.parts))
    return {}, [write_file(blobs[0], header["ending"], pair, decoded(blobs[1]).split("\n"))]


def _checked_answer(header: dict[str, Any], blobs: list[bytes]) -> Message:
    """`_answer`, or why there is none. Raises MemoryError."""
    try:
        return _answer(header, blobs)
    except TellmtError as e:
        found = None if e.found is None else str(e.found)[:200]
        return {"error": {"kind": type(e).__name__, "thing": e.thing, "place": e.place, "found": found, "valid": e.valid}}, []
    except MemoryError:
        raise
    except Exception as e:  # whatever a parser does on a file that nobody thought of
        return {"unexpected": where(e)}, []


def _limit(memory: int) -> None:
    """Let the system hold the limits of this process, as far as it can."""
    if sys.platform == "linux":
        # Ends with the service, also where that is killed in the middle of a document.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.name == "posix":
        import resource

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _limit_time(seconds: float) -> None:
    """End the process when it has computed for so long; 0 takes the limit away. By the system, since a pattern or a parser in C does not let Python act."""
    if os.name == "posix":
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _grown() -> bool:
    if sys.platform != "linux":
        return False
    # Not ru_maxrss, which begins with the memory of the process that started this one.
    with open("/proc/self/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") > GROWN


def main() -> None:
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # Nothing that a library prints may stand between two answers.
    os.dup2(2, 1)
    _limit(int(sys.argv[-1]))
    try:
        _work(source, sink)
    except MemoryError:
        # There may be none left to say so, nor to end in order.
        os._exit(NO_MEMORY)


def _work(source: IO[bytes], sink: IO[bytes]) -> None:
    while True:
        try:
            request = receive(source)
        except EOFError:
            return
        _limit_time(request[0]["seconds"])
        header, blobs = _checked_answer(*request)
        _limit_time(0)
        last = "unexpected" in header or _grown()
        send(sink, {**header, "last": last}, blobs)
        if last:
            return
