"""Counts the tokens of examples as they pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tell.model.tokenizer import BaseTokenizer
from tell.records import Example


def counted(tokenizer: BaseTokenizer, batches: Iterable[list[Example]]) -> Iterator[tuple[list[Example], list[int]]]:
    """Yields each batch with the lengths of its examples in tokens, as training sees them: BOS, prompt, opening, response, EOS.

    A thread tokenises a batch, without holding Python's lock, while the next batch is read.
    """
    with ThreadPoolExecutor(1) as thread:
        before = None
        for batch in batches:
            now = batch, thread.submit(tokenizer.lengths, batch)
            if before is not None:
                yield before[0], before[1].result()
            before = now
        if before is not None:
            yield before[0], before[1].result()
