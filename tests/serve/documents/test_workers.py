"""Files are read in processes of their own: what takes too much ends there, no process is left, and nobody's document waits for another caller's."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serve.documents.parts import File
from serve.documents.workers import DocumentWorkers, WorkerLimits
from tell.errors import EngineError, TooLarge
from tell.languages import parse_pair
from tests.support.serving import until

SMALL = b"1\n00:00:01,000 --> 00:00:02,000\nHell\xc3\xb3\n"
# Two seconds and a hundred mebibytes of paragraphs, within the bounds of a file.
LARGE = b"a b\n\n" * 60_000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc, and the limits are Linux's")


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def read(workers: DocumentWorkers, name: str, raw: bytes, caller: str = "a") -> File:
    document = await workers.read(caller, name, raw, parse_pair("is-en"), 100_000, 64)
    assert isinstance(document, File)
    return document


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (WorkerLimits(seconds=0.4), "file: the file takes too long to read; valid: at most 0.4 s of computing"),
        (WorkerLimits(memory=72 << 20), "file: the file takes too much memory to read; valid: at most 72 MiB"),
    ],
)
def test_what_takes_too_much_ends_and_the_next_document_is_read(limits: WorkerLimits, message: str) -> None:
    async def main() -> list[int]:
        workers = DocumentWorkers(limits)
        assert workers.pids() == []
        with pytest.raises(TooLarge) as e:
            await read(workers, "a.md", LARGE)
        assert str(e.value) == message and workers.pids() == []
        document = await read(workers, "a.srt", SMALL)
        pids = workers.pids()
        assert document.parts == ("Helló",) and document.media_type == "application/x-subrip"
        assert await workers.filled("a", document, ["Bless"]) == SMALL.replace(b"Hell\xc3\xb3", b"Bless")
        # The same process, as long as there is no reason for another.
        assert workers.pids() == pids
        workers.close()
        with pytest.raises(EngineError):
            await read(workers, "a.srt", SMALL)
        return pids

    assert not any(map(alive, asyncio.run(main())))


def test_callers_do_not_wait_for_each_other_and_what_is_given_up_ends() -> None:
    async def main() -> None:
        workers = DocumentWorkers(WorkerLimits(idle=0.05))
        long = asyncio.create_task(read(workers, "a.md", LARGE))
        second = asyncio.create_task(read(workers, "a.srt", SMALL))
        while not workers.pids():
            await asyncio.sleep(0.01)
        [pid] = workers.pids()
        # Of one caller one at a time; another one has a process of its own.
        await read(workers, "a.srt", SMALL, caller="b")
        assert not second.done() and (not long.done() or workers.pids() == [])
        long.cancel()
        await asyncio.gather(long, return_exceptions=True)
        assert not alive(pid)
        assert (await second).parts == ("Helló",)
        # What has no work ends by itself.
        for _ in range(500):
            await asyncio.sleep(0.01)
            if not workers.pids():
                break
        assert workers.pids() == []
        workers.close()

    asyncio.run(main())


SERVICE = """
import asyncio, sys
from serve.documents.workers import DocumentWorkers
from tell.languages import parse_pair
async def main():
    workers = DocumentWorkers()
    await workers.read("a", "a.srt", sys.argv[1].encode(), parse_pair("is-en"), 1000, 9)
    heavy = {"torch", "numpy", "transformers", "fastapi", "uvicorn", "prometheus_client"} & sys.modules.keys()
    print(*workers.pids(), *heavy, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_a_killed_service_leaves_no_process() -> None:
    service = subprocess.Popen([sys.executable, "-c", SERVICE, SMALL.decode()], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert service.stdout
    [pid] = service.stdout.readline().split()
    assert alive(int(pid))
    service.kill()
    service.wait()
    service.stdout.close()
    until(lambda: not alive(int(pid)), 10)


def test_no_process_runs_before_the_first_document() -> None:
    before = time.thread_time()
    workers = DocumentWorkers()
    assert workers.pids() == [] and time.thread_time() - before < 0.1
    workers.close()
