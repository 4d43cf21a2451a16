"""Documents that replicas share: any of them takes one, shows it and hands out its file, and another one goes on where one ends.

What they are and who translates them is in Redis (`serve.documents.ledger`), their texts are in the store of the registry (`serve.documents.shelf`). A
replica holds a job for a lease and says every second that it still does. It writes the translations so far to the store every second or more, and the
result under a name of its own: what counts is the result that Redis was told by the last holder.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hmac
import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from serve.auth.keys import ANONYMOUS, Caller
from serve.auth.quota import Quota
from serve.documents.jobs import CLOSE, SHARE, Job, JobLimits, Jobs, State, gone
from serve.documents.ledger import Ledger, Record
from serve.documents.parts import Document, File
from serve.documents.record import Held, about_of, chunks_of, failure_text, job_of, payer_of, progress_of, update, version_of
from serve.documents.shelf import TRIES, Shelf, pack_parts, pack_source, parts_name, result_name, source_name, unpack_parts, unpack_source
from serve.logs import where
from serve.threads import TEXTS
from serve.translation.request import RequestOptions
from serve.translation.service import Service
from tell import __version__
from tell.errors import EngineError, NotFound, Overloaded, OverShare, TellmtError, TimedOut
from tell.files import sha256_bytes
from tell.languages import parse_pair
from tell.registry.store import is_id

logger = logging.getLogger(__name__)

# Seconds between two words of a replica with Redis, and until another one may take what it held.
TICK, LEASE = 1.0, 10.0
# Seconds for a file to arrive, and in which a job waits for a replica that serves its pair.
READING, ROUTE = 300.0, 15.0
# Replicas that may end while they hold a job: it may be what ends them.
HOLDERS = 3
# Seconds between two looks of a client's at a job that another replica holds, and between two files of translations so far, or this part of the time.
LOOK, PARTS, PARTS_SHARE = 0.4, 1.0, 60
# What a client that watches a job is shown of it.
_SHOWN = ("translations", "state", "done", "adapters", "truncated", "given_quality", "fallback", "applied", "failure", "began", "ended", "gone")
# Ticks between two looks for files to be removed.
SWEEP = 20


class SharedJobs(Jobs):
    def __init__(self, service: Service, quota: Quota, ledger: Ledger, shelf: Shelf, limits: JobLimits | None = None):
        super().__init__(service, limits, quota)
        self.ledger, self.shelf = ledger, shelf
        # Another one each time the process starts: what a former one held is not its own.
        self.holder = secrets.token_hex(8)
        self._held: dict[str, Held] = {}
        self._accepted: set[str] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._states: Counter[State] = Counter()
        self._room = (self.limits.jobs, self.limits.jobs_per_key, self.limits.bytes)

    def states(self) -> Counter[State]:
        """Of all replicas together."""
        return self._states

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # Taking a document

    @contextlib.asynccontextmanager
    async def reading(self, owner: str, size: int) -> AsyncIterator[str]:
        id = secrets.token_hex(16)
        try:
            self._check(await self.ledger.reserve(id, owner, size, self._room))
            yield id
        finally:
            if id not in self._accepted:
                # Also where Redis did not answer: it may have heard.
                self._later(self._withdraw(id))
            self._accepted.discard(id)

    async def _withdraw(self, id: str) -> None:
        for _ in range(60):
            with contextlib.suppress(Overloaded):
                await self.ledger.remove(id)
                return
            await asyncio.sleep(1)

    def _check(self, answer: list[int]) -> None:
        """Raises OverShare or Overloaded where there is no room."""
        refused, first, now = answer
        wait = max(1, min(60, round((first - now) / 1000 + self.limits.kept))) if first else 60
        if refused == 1:
            raise OverShare("too many documents of this key are kept", valid=f"at most {self.limits.jobs_per_key}; delete one", retry_after=wait)
        if refused == 2:
            raise Overloaded("too many documents are kept; try again in a while", retry_after=wait)
        if refused:
            raise Overloaded("the document took too long to be read", retry_after=2)

    async def start(
        self, options: RequestOptions, document: Document, name: str, size: int, source: str, target: str, payer: Caller = ANONYMOUS, id: str | None = None
    ) -> Job:
        """As in one process; but while the service ends, other replicas translate what it takes."""
        job = self._job(options, document, name, size, source, target, payer, id)
        raw = document.raw if isinstance(document, File) else b""
        await self.shelf.write(source_name(job.id), await TEXTS.run(pack_source, document, name, raw, job.pair, job.glossary))
        holds = self._takes() and Counter(h.job.owner for h in self._held.values())[job.owner] < self.limits.running
        answer = await self.ledger.submit(
            job.id, job.owner, job.size, self._room, self.holder if holds else "", round(1000 * LEASE), about_of(job), progress_of(job, []), job.total,
            sha256_bytes(job.secret.encode()),
        )  # fmt: skip
        self._check(answer)
        job.created = answer[2] / 1000
        self._accepted.add(job.id)
        if holds:
            self._hold(Held(job, 1, self.limits.seconds), document)
        return job

    # Looking at one

    async def find(self, owner: str, id: str) -> Job:
        record = await self.ledger.look(id) if is_id(id) else None
        if record is None or record.fields["owner"] != owner:
            raise gone()
        return job_of(id, record)

    async def opened(self, secret: str, owner: str | None = None, id: str | None = None) -> Job:
        link = sha256_bytes(secret.encode(errors="replace"))
        id = await self.ledger.linked(link) if id is None else id
        record = await self.ledger.look(id) if id is not None and is_id(id) else None
        if id is None or record is None or (owner is not None and record.fields["owner"] != owner) or not hmac.compare_digest(record.fields["link"], link):
            raise gone()
        return job_of(id, record)

    async def result(self, job: Job, fetched: bool) -> bytes:
        raw = await self.shelf.read(result_name(job.id, job.epoch))
        if fetched:
            await self.ledger.fetched(job.id)
        return raw

    async def over(self, job: Job) -> None:
        while not job.ended:
            if (held := self._held.get(job.id)) and held.job.task:
                await asyncio.wait({held.job.task})
            with contextlib.suppress(Overloaded):
                await self._refresh(job)
            if job.gone:
                raise gone()
            if not job.ended:
                await asyncio.sleep(LOOK / 2)

    async def _refresh(self, job: Job) -> Record | None:
        if (record := await self.ledger.look(job.id)) is None:
            job.gone = True
        else:
            update(job, record)
        return record

    @contextlib.asynccontextmanager
    async def watching(self, job: Job) -> AsyncIterator[None]:
        watcher = asyncio.get_running_loop().create_task(self._watch(job))
        try:
            yield
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)

    async def _watch(self, job: Job) -> None:
        """Keep a job that was looked for up to date, until it has ended."""
        read: set[str] = set()
        shown = dataclasses.replace(job)
        while not (job.gone or job.ended):
            held = self._held.get(job.id)
            changed = held.job.changed if held else None
            try:
                record = await self._refresh(shown)
                if held and not held.lost and not shown.ended:
                    shown.translations |= held.job.translations
                    shown.done = held.job.done
                elif record is not None:
                    for name in [name for name in chunks_of(record) if name not in read]:
                        with contextlib.suppress(NotFound):
                            shown.translations |= unpack_parts(await self.shelf.read(name))
                        read.add(name)
                for field in _SHOWN:
                    setattr(job, field, getattr(shown, field))
                job.notify()
            except Overloaded:
                pass
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await (changed or asyncio.Event()).wait()

    async def drop(self, job: Job) -> None:
        there, owed = await self.ledger.remove(job.id)
        if owed:
            await asyncio.shield(self.give_back(job.payer, owed))
        if (held := self._held.get(job.id)) is not None:
            await self._let_go(held)
        if not there:
            raise gone()

    # Translating

    def _takes(self) -> bool:
        return self.service.started and not (self.service.stopping or self.service.down or self._closed)

    async def run(self) -> None:
        """Tell Redis what this replica holds, and take what nobody holds, until `close`."""
        number = 0
        while not self._closed:
            self._wake.clear()
            try:
                with contextlib.suppress(Overloaded):
                    await self._tick(sweep=number % SWEEP == 0)
                    number += 1
            except Exception as e:
                logger.error(f"unexpected {where(e)}, with documents")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._wake.wait()

    async def _tick(self, sweep: bool) -> None:
        takes, limits = self._takes() and await self.service.state() == "ready", self.limits
        held = []
        for h in self._held.values():
            size, done, progress = h.state()
            held.append({"id": h.job.id, "epoch": h.epoch, "bytes": size, "done": done, "progress": progress})
        late = TimedOut(f"the document was not done in {limits.seconds:g} s")
        lost = TellmtError(f"{HOLDERS} replicas ended while they translated the document")
        ticked = await self.ledger.tick(
            self.holder, round(1000 * LEASE),
            {
                "held": held, "take": takes, "busy": Counter(h.job.owner for h in self._held.values()), "running": limits.running, "tries": HOLDERS,
                "late": failure_text(late), "lost": failure_text(lost), "longest": 1000 * limits.seconds, "kept": 1000 * limits.kept, "reading": 1000 * READING,
            },
        )  # fmt: skip
        self._states = Counter({state: count for state, count in ticked.states.items() if state != "reading"})  # type: ignore[misc]
        for id in ticked.lost:
            if (own := self._held.get(id)) is not None:
                self._later(self._let_go(own))
        for id in ticked.taken:
            await self._take(id)
        for id in ticked.owing:
            owed, about = await self.ledger.settle(id)
            if owed:
                await self.give_back(payer_of(about), owed)
        if sweep:
            self._later(self._sweep())

    async def _sweep(self) -> None:
        with contextlib.suppress(Overloaded):
            if ids := await self.ledger.gone():
                await self.shelf.remove(frozenset(ids))
                await self.ledger.cleared(ids)

    async def _take(self, id: str) -> None:
        """Translate a job that Redis gave this replica; where it does not serve the pair, leave it to another one for a while."""
        if (record := await self.ledger.look(id)) is None:
            return
        job = job_of(id, record)
        held = Held(job, job.epoch, self.limits.seconds - (record.now - record.number("created")) / 1000, version_of(record), chunks_of(record))
        if not self._takes():
            # It ends just now.
            await self._release(held)
            return
        try:
            self.service.route(job.source, job.target)
        except TellmtError:
            if record.now - record.number("opened") < 1000 * ROUTE:
                await self._release(held, delay=TICK, anew=False)
                return
        if record.number("tries") > 1:
            logger.info("going on with a document that another replica began")
        self._hold(held, None)

    def _hold(self, held: Held, document: Document | None) -> None:
        self._held[held.job.id] = held
        held.job.state = "translating"
        held.job.task = asyncio.get_running_loop().create_task(self._holding(held, document))

    async def _holding(self, held: Held, document: Document | None) -> None:
        try:
            failure = await self._failure_of(self._fill(held, document), held.seconds)
            if isinstance(failure, EngineError) and not await self._engine_works():
                await self._release(held, counts=True)
            else:
                await self._finish(held, failure)
        except asyncio.CancelledError:
            if not held.lost:
                await self._hand_over(held)
        finally:
            self._held.pop(held.job.id, None)
            held.job.notify()
            self._wake.set()

    async def _engine_works(self) -> bool:
        try:
            return self._takes() and await self.service.engine.healthy()
        except Exception:  # a driver that cannot report its health is unhealthy
            return False

    async def _fill(self, held: Held, document: Document | None) -> None:
        job = held.job
        if document is None:
            document = await self._reopened(held)
        job.notify()
        writing = asyncio.get_running_loop().create_task(self._write_parts(held))
        try:
            translations = await self._translated(job, document.parts)
            result = await self.workers.filled(job.owner, document, translations)
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        await self._store_parts(held, TRIES)
        await self.shelf.write(result_name(job.id, held.epoch), result, TRIES)
        held.result_bytes = len(result)

    async def _reopened(self, held: Held) -> Document:
        """The document of a job that came from elsewhere, with the translations that are stored."""
        job, limits = held.job, self.service.limits
        document, name, raw, job.glossary = await TEXTS.run(unpack_source, await self.shelf.read(source_name(job.id), TRIES))
        if isinstance(document, File) and held.version != __version__:
            held.chunks.clear()
            document = await self.workers.read(job.owner, name, raw, parse_pair(job.pair), limits.characters, max(1, limits.waiting // SHARE))
        for chunk in held.chunks:
            with contextlib.suppress(NotFound):
                job.translations |= unpack_parts(await self.shelf.read(chunk, TRIES))
        job.done = sum(len(document.parts[number]) for number in job.translations)
        job.translation_bytes = sum(len(t.text.encode()) for t in job.translations.values())
        held.stored = set(job.translations)
        return document

    async def _write_parts(self, held: Held) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            await asyncio.sleep(max(PARTS, (loop.time() - began) / PARTS_SHARE))
            with contextlib.suppress(Overloaded):
                await self._store_parts(held, 1)

    async def _store_parts(self, held: Held, tries: int) -> None:
        new = {number: t for number, t in held.job.translations.items() if number not in held.stored}
        if new:
            name = parts_name(held.job.id, held.epoch, held.begun)
            held.begun += 1
            await self.shelf.write(name, pack_parts(new), tries)
            held.chunks.append(name)
            held.stored |= new.keys()

    async def _finish(self, held: Held, failure: TellmtError | None) -> None:
        """Say that it is done or why it failed: that is to be heard, however long Redis is away."""
        job, told = held.job, None if failure is None else failure_text(failure)
        while True:
            try:
                own = await self.ledger.finish(job.id, held.epoch, told, *held.state())
                break
            except Overloaded:
                await asyncio.sleep(TICK / 2)
        if not own:
            with contextlib.suppress(Overloaded):
                await self.shelf.remove_one(result_name(job.id, held.epoch))

    async def _release(self, held: Held, delay: float = 0.0, counts: bool = False, anew: bool = True) -> None:
        lost = failure_text(TellmtError(f"the engines of {HOLDERS} replicas ended while they translated the document"))
        with contextlib.suppress(Overloaded):
            await self.ledger.release(held.job.id, held.epoch, *held.state(), round(1000 * delay), counts, HOLDERS, lost, anew)

    async def _hand_over(self, held: Held) -> None:
        """Leave it to other replicas as this one ends, with what is translated. What is not done in time, the end of the lease does."""
        with contextlib.suppress(Overloaded, NotFound, TimeoutError):
            async with asyncio.timeout(CLOSE / 2):
                await self._store_parts(held, 1)
        await self._release(held)

    async def _let_go(self, held: Held) -> None:
        """Stop working for a job that is another replica's, or nobody's any more."""
        held.lost = True
        if (task := held.job.task) is not None and not task.done():
            task.cancel()
            await asyncio.wait({task})
        # It may not have begun.
        self._held.pop(held.job.id, None)

    async def close(self) -> None:
        """Leave what this replica holds to the others. It still reads and takes what was sent before its end."""
        self._closed = True
        self._wake.set()
        if tasks := [held.job.task for held in self._held.values() if held.job.task]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=CLOSE)
