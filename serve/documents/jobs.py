"""Documents that are translated after their request has been answered: jobs with progress, each owned by an API key. In memory, so a restart forgets them;
`serve.documents.shared` has those that replicas share.

A document goes through the service part by part, each part as a request of its own in the fair queue: a long document neither fills the queue nor
holds a version while it waits. So two versions may translate parts of one document, where one takes over meanwhile; `adapters` names both.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hmac
import logging
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from functools import partial
from typing import Literal, get_args

from serve.adapters.versions import Version
from serve.auth.keys import ANONYMOUS, Caller
from serve.auth.quota import Quota
from serve.config import Fallback
from serve.documents.parts import Document, Text, fit_name
from serve.documents.workers import DocumentWorkers, WorkerLimits
from serve.logs import where
from serve.translation.decoder import Quality
from serve.translation.request import RequestOptions, Translation
from serve.translation.service import Service
from tell.errors import EngineError, NotFound, Overloaded, OverShare, TellmtError, TimedOut
from tell.languages import parse_pair
from tell.lexicon.glossary import Glossary

logger = logging.getLogger(__name__)

State = Literal["queued", "translating", "done", "failed"]

# Parts of one document in the queue at once: one is translated while the next is prepared.
PARALLEL = 2
# One part of a document takes at most this fraction of the segments that may wait: 1 / SHARE.
SHARE = 8
# The most seconds between two tries while the queue is full.
LONGEST_WAIT = 30
# Seconds that the engine has to stop all decodes when the service ends.
CLOSE = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class JobLimits:
    # Jobs that are kept, done or not: of all keys, and of one key.
    jobs: int = 256
    jobs_per_key: int = 32
    # Jobs of one key under way; the others of this key are queued.
    running: int = 2
    # Bytes of uploads and results that are kept.
    bytes: int = 64 << 20
    # Seconds that a job may take, and that it is kept when it has ended.
    seconds: float = 3600.0
    kept: float = 3600.0
    workers: WorkerLimits = dataclasses.field(default_factory=WorkerLimits)


@dataclasses.dataclass(eq=False, slots=True)
class Job:
    """The translation of one document. `id` names it to its owner; `secret` opens it to a client that has the link or the document key."""

    owner: str
    pair: str
    source: str
    target: str
    name: str
    media_type: str
    ending: str
    size: int
    cache: bool
    # The quality asked for, and the one given: fast if some part was translated while the service was busy.
    quality: Quality = "fast"
    given_quality: Quality = "fast"
    # The fallback, where the pair has no adapter.
    fallback: Fallback | None = None
    # The terms it began with, until it has ended: a glossary may be deleted meanwhile. And whether all parts were translated with them; None before the first.
    glossary: Glossary | None = None
    applied: bool | None = None
    id: str = dataclasses.field(default_factory=lambda: secrets.token_hex(16))
    secret: str = dataclasses.field(default_factory=lambda: secrets.token_hex(32))
    state: State = "queued"
    # Characters of the parts that are translated, and of all.
    done: int = 0
    total: int = 0
    # Ids of the adapters that translated, in order of their first part; and whether some part was cut at the token limit.
    adapters: list[str] = dataclasses.field(default_factory=list)
    truncated: bool = False
    # What of the document cannot be translated, and what is odd about it.
    notes: tuple[str, ...] = ()
    # The translation of each part so far, by its number, for clients that watch; and how many parts there are.
    translations: dict[int, Translation] = dataclasses.field(default_factory=dict)
    parts: int = 0
    # Bytes of `translations`.
    translation_bytes: int = 0
    # The job was deleted or forgotten.
    gone: bool = False
    # Set when something has changed, and then replaced by a new event.
    changed: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    result: bytes | None = None
    # Which of the replicas that translated it one after the other has its result.
    epoch: int = 0
    failure: TellmtError | None = None
    # The result was fetched: from then on it is kept as long as no other document needs the room.
    fetched: bool = False
    created: float = dataclasses.field(default_factory=time.time)
    began: float | None = None
    ended: float | None = None
    task: asyncio.Task[None] | None = None
    # Whose quota its characters were taken from.
    payer: Caller = ANONYMOUS

    def kept_bytes(self) -> int:
        """Bytes that are kept for the job."""
        return (self.size if self.ended is None else len(self.result or b"")) + self.translation_bytes

    def notify(self) -> None:
        """Wake the clients that watch the job."""
        self.changed.set()
        self.changed = asyncio.Event()

    def seconds_left(self) -> int | None:
        """Until it is done, by its speed so far; None while that is not known."""
        if self.began is None or not self.done or self.ended is not None:
            return None
        return max(1, round((time.time() - self.began) * (self.total - self.done) / self.done))


def gone() -> NotFound:
    return NotFound("no such document, or it is gone")


class Jobs:
    """`quota` is what the characters of documents were taken from, and what was not translated goes back to."""

    def __init__(self, service: Service, limits: JobLimits | None = None, quota: Quota | None = None):
        self.service, self.limits, self.quota = service, limits or JobLimits(), quota or Quota()
        self.workers = DocumentWorkers(self.limits.workers)
        self._jobs: dict[str, Job] = {}
        # (owner, bytes) of the files that are being read, by the ids that their jobs are to have.
        self._reading: dict[str, tuple[str, int]] = {}
        # By owner, while it has jobs: limits how many of them are under way.
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closed = False
        from prometheus_client import Gauge

        documents = Gauge("tellmt_documents", "Documents kept: under way, or not fetched or forgotten yet.", ["state"], registry=service.metrics.registry)
        for state in get_args(State):
            documents.labels(state).set_function(partial(self._count, state))

    def _count(self, state: State) -> float:
        return float(self.states()[state])

    def states(self) -> Counter[State]:
        """How many jobs are kept in each state."""
        return Counter(job.state for job in self._jobs.values())

    def check(self, owner: str, size: int) -> None:
        """Make room for a file of `size` bytes: fetched results go first. Raises OverShare or Overloaded when there is no room."""
        while (refusal := self._full(owner, size)) is not None:
            of_all = not isinstance(refusal, OverShare)
            fetched = [job for job in self._jobs.values() if job.fetched and (of_all or job.owner == owner)]
            if not fetched:
                raise refusal
            self._forget(min(fetched, key=lambda job: job.created))

    @contextlib.asynccontextmanager
    async def reading(self, owner: str, size: int) -> AsyncIterator[str]:
        """Keep room for a file while it is read; yields the id for `start`. Raises as `check`."""
        self.check(owner, size)
        id = secrets.token_hex(16)
        self._reading[id] = owner, size
        try:
            yield id
        finally:
            self._reading.pop(id, None)

    def _full(self, owner: str, size: int) -> Overloaded | None:
        owner_jobs = [job for job in self._jobs.values() if job.owner == owner]
        if len(owner_jobs) + sum(reader == owner for reader, _ in self._reading.values()) >= self.limits.jobs_per_key:
            return OverShare(
                "too many documents of this key are kept", valid=f"at most {self.limits.jobs_per_key}; delete one", retry_after=self._wait(owner_jobs)
            )
        kept_bytes = sum(job.kept_bytes() for job in self._jobs.values()) + sum(size for _, size in self._reading.values())
        if len(self._jobs) + len(self._reading) >= self.limits.jobs or kept_bytes + size > self.limits.bytes:
            return Overloaded("too many documents are kept; try again in a while", retry_after=self._wait(list(self._jobs.values())))
        return None

    def _wait(self, jobs: list[Job]) -> int:
        """Seconds until the first of the ended jobs is forgotten; a minute at most, since a client may delete one."""
        ends = [job.ended + self.limits.kept - time.time() for job in jobs if job.ended is not None]
        return max(1, min(60, round(min(ends, default=60.0))))

    async def start(
        self, options: RequestOptions, document: Document, name: str, size: int, source: str, target: str, payer: Caller = ANONYMOUS, id: str | None = None
    ) -> Job:
        """Begin to translate, for the caller of the options; `payer` was charged for it. `size` is that of the file, in bytes, and `id` that of `reading`.

        Raises LanguageError, RequestError, NotServed, Overloaded, and EngineError while the service ends.
        """
        if self.service.stopping or self._closed:
            raise EngineError("the service is stopping")
        job = self._job(options, document, name, size, source, target, payer, id)
        self._reading.pop(job.id, None)
        self.check(job.owner, job.size)
        self._jobs[job.id] = job
        job.task = asyncio.get_running_loop().create_task(self._run(job, document))
        return job

    def _job(self, options: RequestOptions, document: Document, name: str, size: int, source: str, target: str, payer: Caller, id: str | None) -> Job:
        pair = parse_pair(self.service.route(source, target).pair)
        # Beside the file its text is kept, of which an unpacked one may have more.
        size += 0 if isinstance(document, Text) else sum(map(len, document.parts))
        job = Job(
            options.caller, str(pair), pair.source.tag, pair.target.tag, fit_name(name, document.ending), document.media_type, document.ending, size,
            options.cache, options.quality, options.quality, total=sum(map(len, document.parts)), parts=len(document.parts), glossary=options.glossary,
            notes=tuple(document.notes), payer=payer,
        )  # fmt: skip
        job.id = id or job.id
        return job

    async def find(self, owner: str, id: str) -> Job:
        """The job with this id. Raises NotFound also for a job of another key: only its owner learns that it exists."""
        job = self._jobs.get(id)
        if job is None or job.owner != owner:
            raise gone()
        return job

    async def opened(self, secret: str, owner: str | None = None, id: str | None = None) -> Job:
        """The job that a secret opens; with an id, that one only. Raises NotFound."""
        jobs = list(self._jobs.values()) if id is None else [await self.find(str(owner), id)]
        given_secret = secret.encode(errors="replace")
        if (matching := [job for job in jobs if hmac.compare_digest(job.secret.encode(), given_secret)]) == []:
            raise gone()
        return matching[0]

    async def result(self, job: Job, fetched: bool) -> bytes:
        """The translated file of a job that is done; with `fetched` it gives way from now on. Raises NotFound where it is gone."""
        if job.result is None:
            raise gone()
        job.fetched = job.fetched or fetched
        return job.result

    async def over(self, job: Job) -> None:
        """Returns when the job has ended, well or not. A caller may stop waiting; that changes nothing."""
        if job.task is not None:
            await asyncio.wait({job.task})

    @contextlib.asynccontextmanager
    async def watching(self, job: Job) -> AsyncIterator[None]:
        """In it, the job's `changed` is set with every change."""
        yield

    async def run(self) -> None:
        """What is to be done besides, for as long as the service runs: nothing here."""

    async def drop(self, job: Job) -> None:
        """Forget a job; returns when the engine has stopped working for it. Raises NotFound where somebody else was faster."""
        self._forget(job)
        if job.task is not None and not job.task.done():
            job.task.cancel()
            await asyncio.wait({job.task})

    async def close(self) -> None:
        """Drop all jobs, and end the processes that read files. Waits only a moment for an engine that does not stop."""
        self._closed = True
        self.workers.close()
        if dropping := [asyncio.create_task(self.drop(job)) for job in list(self._jobs.values())]:
            await asyncio.wait(dropping, timeout=CLOSE)

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
        job.gone = True
        job.notify()
        if timer := self._timers.pop(job.id, None):
            timer.cancel()
        if all(other.owner != job.owner for other in self._jobs.values()):
            self._turns.pop(job.owner, None)

    async def _run(self, job: Job, document: Document) -> None:
        try:
            await self._translate(job, document)
        finally:
            # Shielded: a document that is deleted cancels its work.
            if job.done < job.total:
                await asyncio.shield(self.give_back(job.payer, job.total - job.done))

    async def give_back(self, payer: Caller, characters: int) -> None:
        await self.quota.give_back(payer, "characters", characters)

    async def _translate(self, job: Job, document: Document) -> None:
        turns = self._turns.setdefault(job.owner, asyncio.Semaphore(self.limits.running))

        async def fill() -> None:
            async with turns:
                job.state, job.began = "translating", time.time()
                job.notify()
                job.result = await self.workers.filled(job.owner, document, await self._translated(job, document.parts))

        job.failure = await self._failure_of(fill(), self.limits.seconds)
        job.state = "done" if job.failure is None else "failed"
        job.ended, job.glossary = time.time(), None
        job.notify()
        # Only a job that is still kept is timed: it may have been deleted in its last moment.
        if job.id in self._jobs:
            self._timers[job.id] = asyncio.get_running_loop().call_later(self.limits.kept, self._forget, job)

    async def _failure_of(self, work: Awaitable[None], seconds: float) -> TellmtError | None:
        """Do the work on a document, in so many seconds. Returns why it failed, or None."""
        try:
            async with asyncio.timeout(seconds):
                await work
        except TimeoutError:
            return TimedOut(f"the document was not done in {self.limits.seconds:g} s")
        except TellmtError as e:
            # Without its traceback, whose frames hold the texts.
            e.__context__ = None
            return e.with_traceback(None)
        except Exception as e:
            logger.error(f"unexpected {where(e)}, in a document")
            return TellmtError("something went wrong in the service")
        return None

    async def _translated(self, job: Job, parts: Sequence[str]) -> list[str]:
        # Some are there already where another replica began.
        output = [job.translations[number].text if number in job.translations else part for number, part in enumerate(parts)]
        numbers = iter([number for number in range(len(parts)) if number not in job.translations])

        async def translate_parts() -> None:
            for number in numbers:
                translation = await self._part(job, parts[number]) if parts[number].strip() else Translation(parts[number], False)
                output[number], job.translations[number] = translation.text, translation
                job.translation_bytes += len(translation.text.encode())
                job.done += len(parts[number])
                job.notify()

        workers = [asyncio.create_task(translate_parts()) for _ in range(PARALLEL)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return output

    async def _part(self, job: Job, part: str) -> Translation:
        while True:
            options = self.service.degraded_when_busy(RequestOptions(caller=job.owner, cache=job.cache, quality=job.quality, glossary=job.glossary))
            versions: list[Version] = []
            try:
                route = self.service.route(job.source, job.target)
                [translation] = await self.service.translate_route(route, [part], options, versions.append)
            except Overloaded as e:
                # The client has left long ago and cannot ask again.
                await asyncio.sleep(min(e.retry_after, LONGEST_WAIT))
                continue
            job.adapters += [name for name in dict.fromkeys(v.name for v in versions) if name not in job.adapters]
            job.fallback, job.truncated = route.fallback or job.fallback, job.truncated or translation.truncated
            if (applied := options.glossary_applied(versions)) is not None:
                job.applied = applied and job.applied is not False
            if options.quality == "fast":
                job.given_quality = "fast"
            return translation
