"""Each kind of work has threads of its own."""

from __future__ import annotations

import asyncio
import threading

from serve.threads import FEEDBACK, FOLLOWER, REGISTRY, TEXTS


def test_long_texts_hold_up_nothing_else() -> None:
    """As many as there are threads, and more that wait: the registry is followed and corrections are kept meanwhile."""

    async def main() -> None:
        until = threading.Event()
        texts = [asyncio.create_task(TEXTS.run(until.wait, 20)) for _ in range(40)]
        for threads in (FOLLOWER, REGISTRY, FEEDBACK):
            assert await asyncio.wait_for(threads.run(lambda a, b: a + b, 1, b=2), 10) == 3
        assert not any(task.done() for task in texts)
        until.set()
        assert all(await asyncio.gather(*texts))

    asyncio.run(main())
