"""Counts on the way of a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tell.model.tokenizer import Tokens
from tell.records import Example


def counted(tokens: Tokens, batches: Iterable[list[Example]]) -> Iterator[tuple[list[Example], list[int]]]:
    """Each batch with the length of its examples as training will see them: BOS, prompt, opening, response, EOS.

    A batch is tokenised in a thread, which leaves Python free, while the next one is read.
    """
    with ThreadPoolExecutor(1) as thread:
        before = None
        for batch in batches:
            now = batch, thread.submit(tokens.lengths, batch)
            if before is not None:
                yield before[0], before[1].result()
            before = now
        if before is not None:
            yield before[0], before[1].result()
