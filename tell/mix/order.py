"""The order in which a mix is trained on (TELL, arXiv 2404.00914, section 3.2), and the orders that it is compared with.

shuffled     all examples through each other, one by one
task-last    the general examples, then the task's, each shuffled by themselves
task-first   the other way round
interleave   both shuffled by themselves, then the task examples at equal distances
none         the task examples as the corpora have them, then the general ones as the pool has them
"""

from __future__ import annotations

import random
from array import array
from collections.abc import MutableSequence, Sequence

from tell.mix.config import Order


def _shuffled(items: Sequence[int], seed: str) -> array[int]:
    order = array("I", items)
    # The permutation depends on seed and length alone, so any mutable sequence will do.
    shuffle: MutableSequence[int] = order
    random.Random(seed).shuffle(shuffle)
    return order


def interleave(task: Sequence[int], general: Sequence[int]) -> array[int]:
    """The task examples at equal distances among the general ones: the i-th of T in the middle of the i-th of T equal parts."""
    order, rest, total = array("I"), iter(general), len(task) + len(general)
    for i, item in enumerate(task):
        while len(order) < (2 * i + 1) * total // (2 * len(task)):
            order.append(next(rest))
        order.append(item)
    order.extend(rest)
    return order


def arrange(order: Order, task: Sequence[int], general: Sequence[int], seed: int, passes: int = 1) -> array[int]:
    """The examples in the order of training. For `none` they must be given as corpora and pool have them.

    With several passes the task examples are there as many times, in another order each time. Shuffled and at equal distances, the general examples are
    dealt out to the passes in equal parts; before or after the task they stay together.
    """
    if passes > 1:
        return _repeated(order, task, general, seed, passes)
    if order == "shuffled":
        return _shuffled([*task, *general], f"mix {seed}")
    if order == "none":
        return array("I", [*task, *general])
    parts = _shuffled(task, f"task order {seed}"), _shuffled(general, f"general order {seed}")
    if order == "interleave":
        return interleave(*parts)
    return parts[0] + parts[1] if order == "task-first" else parts[1] + parts[0]


def _repeated(order: Order, task: Sequence[int], general: Sequence[int], seed: int, passes: int) -> array[int]:
    spread = order in ("shuffled", "interleave")
    drawn = general if order == "none" else _shuffled(general, f"general order {seed}")
    arranged = array("I", [] if spread or order != "task-last" else drawn)
    for i in range(passes):
        part = drawn[len(drawn) * i // passes : len(drawn) * (i + 1) // passes] if spread else array("I")
        again = task if order == "none" else _shuffled(task, f"task order {seed} pass {i}")
        if order == "shuffled":
            arranged += _shuffled([*again, *part], f"mix {seed} pass {i}")
        else:
            arranged += interleave(again, part) if spread else array("I", again)
    return arranged if spread or order == "task-last" else arranged + array("I", drawn)
