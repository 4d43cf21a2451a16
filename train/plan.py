"""Assigns examples to optimiser steps, before the first step, from the mixed order and the seed alone."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from train.config import TrainOptions

# The cost of one more forward and backward pass, in tokens: on two CPU cores about a tenth of a second.
PASS = 48
# Examples in one micro-batch, at most: keeps the search short when steps are very large.
WINDOW = 512


@dataclasses.dataclass(frozen=True, slots=True)
class Tokenised:
    """One example as ids; the loss is on ids[start:]."""

    ids: list[int]
    start: int
    task: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """`members`: the indices of the step's examples, in order. `tokens` counts every token, `targets` those that the loss is computed on."""

    members: list[int]
    tokens: int
    targets: int
    task_tokens: int


def epoch_order(count: int, epoch: int, seed: int, reshuffle: bool) -> list[int]:
    """The mixed order for the first epoch and a new shuffle for each later one; the mixed order for all where it was chosen on purpose."""
    order = list(range(count))
    if epoch and reshuffle:
        random.Random(f"order:{seed}:{epoch}").shuffle(order)
    return order


def micro_batches(indices: list[int], data: Sequence[Tokenised], limit: int) -> list[list[int]]:
    """Split examples by length so that padding is small: a micro-batch has at most `limit` tokens, its examples times the longest.

    Of all ways to cut the examples, sorted by length, this is the one with the fewest padded tokens plus PASS for each micro-batch.
    """
    order = sorted(indices, key=lambda i: (len(data[i].ids), i))
    lengths = [len(data[i].ids) for i in order]
    # The least cost of the first n examples, and where their last micro-batch begins.
    cost, starts = [0], [0]
    for end in range(1, len(order) + 1):
        longest = lengths[end - 1]
        first = max(0, end - max(1, limit // longest), end - WINDOW)
        best = min(range(first, end), key=lambda start: cost[start] + (end - start) * longest)
        cost.append(cost[best] + (end - best) * longest + PASS)
        starts.append(best)
    batches = []
    end = len(order)
    while end:
        batches.append(order[starts[end] : end])
        end = starts[end]
    return batches[::-1]


def packed_batches(indices: list[int], data: Sequence[Tokenised], limit: int) -> list[list[int]]:
    """Pack examples into rows of at most `limit` tokens each: the longest first, each into the first row with room for it."""
    rows: list[list[int]] = []
    free_tokens: list[int] = []
    for i in sorted(indices, key=lambda i: (-len(data[i].ids), i)):
        length = len(data[i].ids)
        row = next((r for r, free in enumerate(free_tokens) if free >= length), None)
        if row is None:
            rows.append([i])
            free_tokens.append(limit - length)
        else:
            rows[row].append(i)
            free_tokens[row] -= length
    return rows


def make_plan(data: Sequence[Tokenised], options: TrainOptions, seed: int, reshuffle: bool = True) -> list[Step]:
    """Every step of every epoch. Each example is used exactly once per epoch; the last step of an epoch may be smaller."""
    steps = []
    for epoch in range(options.epochs):
        group: list[int] = []
        groups = []
        size = 0
        for i in epoch_order(len(data), epoch, seed, reshuffle):
            if group and size + len(data[i].ids) > options.batch_tokens:
                groups.append(group)
                group, size = [], 0
            group.append(i)
            size += len(data[i].ids)
        if group:
            groups.append(group)
        for members in groups:
            steps.append(
                Step(
                    members=members,
                    tokens=sum(len(data[i].ids) for i in members),
                    targets=sum(len(data[i].ids) - data[i].start for i in members),
                    task_tokens=sum(len(data[i].ids) for i in members if data[i].task),
                )
            )
    return steps


def learning_rate(step: int, total: int, options: TrainOptions) -> float:
    """The rate of step 0 to total - 1: linear warm-up, then the schedule down to a tenth (cosine) or to zero (linear)."""
    import math

    warmup_steps = int(total * options.warmup)
    if step < warmup_steps:
        return options.learning_rate * (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, total - warmup_steps)
    if options.schedule == "cosine":
        return options.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))
    return options.learning_rate * (1 - progress) if options.schedule == "linear" else options.learning_rate
