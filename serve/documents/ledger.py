"""Which documents replicas share, how far they are, and which replica translates each: in Redis. Texts are not here, they are in the store (`shelf`).

A replica holds a job for a lease, which it renews; when it does not, another one takes the job. Each holding has a number, the epoch: what an earlier one
still says is refused. Times are Redis's.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from serve.auth.quota import with_port
from serve.documents import ledger_scripts as scripts
from tell.errors import Overloaded
from tell.files import sha256_bytes

logger = logging.getLogger(__name__)

# Seconds that a replica waits for Redis.
PATIENCE = 2.0


class Record(NamedTuple):
    """A job as Redis has it: its fields, and Redis's time, in milliseconds."""

    now: int
    fields: dict[str, str]

    def number(self, name: str) -> int:
        return int(float(self.fields.get(name) or 0))


class Ticked(NamedTuple):
    """Ids of jobs that another replica has by now, that this one may take, and that owe characters to who paid; and how many jobs are in each state."""

    lost: list[str]
    taken: list[str]
    owing: list[str]
    states: dict[str, int]


def _text(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_text(v) for v in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


class Ledger:
    """Every method raises Overloaded when Redis does not answer, or has no room."""

    def __init__(self, uri: str, place: str):
        """`place` is the registry's: replicas of another one have other documents."""
        import coredis

        # In braces: in a cluster all keys are then at one node.
        self.prefix = f"tellmt:documents:{{{sha256_bytes(place.encode())[:16]}}}"
        self._redis: Any = coredis.Redis.from_url(with_port(uri.removeprefix("async+")), stream_timeout=PATIENCE, connect_timeout=PATIENCE)
        self._scripts: dict[str, Any] = {}
        self._down = False

    async def _call(self, script: str, *args: object) -> Any:
        if script not in self._scripts:
            self._scripts[script] = self._redis.register_script(script)
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._scripts[script](keys=[self.prefix], args=[a if isinstance(a, (str, bytes)) else str(a) for a in args])
        except Exception as e:
            if not self._down:
                # Its message may quote an address with a password.
                logger.error(f"the storage of documents does not answer: {type(e).__name__}")
            self._down = True
            raise Overloaded("documents are not at hand at the moment", retry_after=2) from None
        if self._down:
            logger.info("the storage of documents answers again")
        self._down = False
        return _text(answer)

    async def reserve(self, id: str, owner: str, size: int, limits: Sequence[int]) -> list[int]:
        """`limits`: jobs of all, of one owner, and bytes. Returns {0, ...}, or why there is no room."""
        return list(await self._call(scripts.RESERVE, id, owner, size, *limits))

    async def submit(
        self, id: str, owner: str, size: int, limits: Sequence[int], holder: str, lease: int, about: str, progress: str, total: int, link: str
    ) -> list[int]:
        return list(await self._call(scripts.SUBMIT, id, owner, size, *limits, holder, lease, about, progress, total, link))

    async def tick(self, holder: str, lease: int, asked: dict[str, Any]) -> Ticked:
        _, lost, taken, owing, counts = await self._call(scripts.TICK, holder, lease, json.dumps(asked))
        return Ticked(lost, taken, owing, {state: int(count) for state, count in zip(counts[::2], counts[1::2], strict=True)})

    async def finish(self, id: str, epoch: int, failure: str | None, size: int, done: int, progress: str) -> bool:
        return bool(await self._call(scripts.FINISH, id, epoch, "done" if failure is None else "failed", failure or "", size, done, progress))

    async def release(
        self,
        id: str,
        epoch: int,
        size: int,
        done: int,
        progress: str,
        delay: int = 0,
        counts: bool = False,
        tries: int = 0,
        failure: str = "",
        anew: bool = True,
    ) -> bool:
        """Leave the job to others, in `delay` milliseconds. With `counts` it is one of its `tries`, after which it has failed; `anew`: it is open from now."""
        return bool(await self._call(scripts.RELEASE, id, epoch, delay, int(counts), done, size, progress, tries, failure, int(anew)))

    async def look(self, id: str) -> Record | None:
        now, pairs = await self._call(scripts.LOOK, id)
        fields = dict(zip(pairs[::2], pairs[1::2], strict=True)) if isinstance(pairs, list) else dict(pairs)
        return Record(int(now), fields) if fields.get("about") else None

    async def linked(self, link: str) -> str | None:
        id = await self._call(scripts.LINKED, link)
        return None if id is None else str(id)

    async def fetched(self, id: str) -> None:
        await self._call(scripts.FETCHED, id)

    async def remove(self, id: str) -> tuple[bool, int]:
        there, owed = await self._call(scripts.REMOVE, id)
        return bool(there), int(owed)

    async def settle(self, id: str) -> tuple[int, str]:
        """The characters that a job owes, and what it is; the second time none."""
        owed, about = await self._call(scripts.SETTLE, id)
        return int(owed), str(about)

    async def gone(self) -> list[str]:
        return list(await self._call(scripts.GONE))

    async def cleared(self, ids: Sequence[str]) -> None:
        await self._call(scripts.CLEARED, *ids)
