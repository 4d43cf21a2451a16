"""Draws the general examples of a mix from pools without replacement, until the budget of tokens is reached.

Reads JSONL files of {prompt, completion}, may be .gz. A pool is read once to find its usable lines, and then line by line as they are drawn.
"""

from __future__ import annotations

import math
import mmap
import random
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from tell.errors import CorpusError
from tell.files import iter_lines, line_text, parse
from tell.mix.config import GeneralSource, MixPlan
from tell.mix.counting import counted
from tell.mix.task_examples import ReservedTexts, counts
from tell.model.anchor import general_prompt
from tell.model.tokenizer import BaseTokenizer
from tell.records import Example
from tell.spool import BATCH, Spool
from tell.text.entities import as_characters
from tell.text.normalise import lines_of_letters, storable

# Examples in the first batch of a draw, which may want no more than a few; each later one is twice as large, up to BATCH.
FIRST = 256


def _usable(value: Any) -> str:
    """The text of a prompt or completion; empty when it is not one."""
    return value.strip() if isinstance(value, str) and storable(value) else ""


def _parsed(line: str, source: GeneralSource) -> tuple[str, str] | None:
    """Prompt and completion of a line; None when one of them is missing."""
    try:
        row = parse(line)
    except (ValueError, RecursionError):
        return None
    prompt, completion = (_usable(row.get(k)) if isinstance(row, dict) else "" for k in (source.prompt, source.completion))
    return (prompt, completion) if prompt and completion else None


class GeneralPool:
    """The usable lines of one source: where the texts of each lie, and its number in the file.

    Raises CorpusError when the file cannot be read or no line is usable.
    """

    def __init__(self, source: GeneralSource, aside: Path):
        self.source, self.lines, self.used, self.tokens = source, 0, 0, 0
        self._starts, self._prompts, self._numbers = array("Q", [0]), array("I"), array("I")
        # The texts of usable lines are laid out beside the mix: a gzip file cannot be read from the middle, and one of the user's, mapped, would end the
        # process if it were cut meanwhile.
        with aside.open("w+b", buffering=1 << 20) as file:
            for number, (start, raw) in enumerate(iter_lines(source.path), 1):
                self.lines = number
                if (texts := _parsed(line_text(raw, source.path, number, start), source)) is None:
                    continue
                prompt, completion = texts[0].encode(), texts[1].encode()
                file.write(prompt)
                file.write(completion)
                self._starts.append(self._starts[-1] + len(prompt) + len(completion))
                self._prompts.append(len(prompt))
                self._numbers.append(number)
            if not self._numbers:
                valid = f'JSONL of {{"{source.prompt}": TEXT, "{source.completion}": TEXT}}'
                raise CorpusError("no usable line", place=source.dataset or str(source.path), found=f"{self.lines} lines", valid=valid)
            file.flush()
            # Mapped, not read: where system calls are slow, a million reads take as long as everything else.
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # Nobody else needs its name.
        aside.unlink()

    def __enter__(self) -> GeneralPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._map.close()

    def __len__(self) -> int:
        return len(self._numbers)

    def example(self, i: int) -> Example:
        start = self._starts[i]
        middle = start + self._prompts[i]
        prompt, completion = self._map[start:middle].decode(), self._map[middle : self._starts[i + 1]].decode()
        return Example(f"general:{self.source.label}:{self._numbers[i]}", "general", general_prompt(prompt), "", completion)


def repeats_segment(texts: tuple[str, str], segments: set[str]) -> bool:
    """Whether a text, or a line of it, is one of the corpus's segments."""
    for text in texts:
        parts = lines_of_letters(as_characters(text))
        # What a text has in letters is what its lines have, in a row.
        if "".join(parts) in segments or (len(parts) > 1 and not segments.isdisjoint(parts)):
            return True
    return False


class DrawnExamples:
    """The drawn examples: numbers of spooled lines in the order of the draw, and the place of each in the pools."""

    def __init__(self) -> None:
        self.lines, self.places, self.tokens = array("I"), array("Q"), 0

    def plain(self) -> array[int]:
        """The drawn lines in the order of the pools."""
        return array("I", [line for _, line in sorted(zip(self.places, self.lines, strict=True))])


class _Draw:
    """One draw from some of the pools together."""

    def __init__(self, plan: MixPlan, pools: list[tuple[int, GeneralPool]], seed: str):
        self.plan, self.pools = plan, pools
        # (pool, line) as one number: the places of all lines in a row.
        self.firsts = [0]
        for _, pool in pools:
            self.firsts.append(self.firsts[-1] + len(pool))
        self.order = array("I", range(self.firsts[-1]))
        random.Random(seed).shuffle(self.order)
        self.queue: list[list[tuple[int, int]]] = []

    def batches(self) -> Iterator[list[Example]]:
        start, size = 0, FIRST
        while start < len(self.order):
            where = []
            for place in self.order[start : start + size]:
                p = bisect_right(self.firsts, place) - 1
                where.append((p, place - self.firsts[p]))
            start, size = start + size, min(BATCH, 2 * size)
            self.queue.append(where)
            yield [self.pools[p][1].example(i) for p, i in where]

    def until(self, budget: int, tokenizer: BaseTokenizer, reserved: ReservedTexts, spool: Spool, drawn: DrawnExamples, left_out: Counter[str]) -> int:
        """Draw until there are `budget` tokens or no lines; return the tokens."""
        have = 0
        if budget <= 0:
            return 0
        for examples, lengths in counted(tokenizer, self.batches()):
            for (p, i), example, n in zip(self.queue.pop(0), examples, lengths, strict=True):
                if have >= budget:
                    return have
                if n > self.plan.config.max_tokens:
                    left_out["general: longer than max_tokens"] += 1
                elif repeats_segment(texts := (example.prompt.rstrip("\n"), example.response), reserved.segments):
                    left_out["general: repeats a segment of the corpus"] += 1
                elif name := next(filter(None, map(reserved.stretches.find, texts)), None):
                    left_out[f"general: holds a segment of {name}"] += 1
                else:
                    number, pool = self.pools[p]
                    drawn.lines.append(spool.add(example.line()))
                    drawn.places.append(number << 40 | i)
                    pool.used += 1
                    pool.tokens += n
                    have += n
        return have


def parts_of(budget: int, sources: tuple[GeneralSource, ...]) -> list[int]:
    """Divides `budget` tokens among the sources by their shares, by the method of largest remainders."""
    whole = sum(s.share or 0.0 for s in sources)
    exact = [budget * (s.share or 0.0) / whole for s in sources]
    parts = [math.floor(x) for x in exact]
    for i in sorted(range(len(parts)), key=lambda i: parts[i] - exact[i])[: budget - sum(parts)]:
        parts[i] += 1
    return parts


def _check_part(plan: MixPlan, pool: GeneralPool, part: int, budget: int, tokenizer: BaseTokenizer) -> None:
    """Raises CorpusError when a source's part is less than half of one of its examples: it would round to none."""
    sample = [pool.example(i) for i in range(min(len(pool), FIRST))]
    mean = sum(tokenizer.lengths(sample)) / len(sample)
    if 2 * part < mean:
        found = f"{part} of {budget} general tokens, where one of its examples has {mean:.0f}"
        valid = "a larger share, more general tokens, or no such source"
        raise CorpusError("this share rounds to no example", place=f"[[mix.sources]] {pool.source.label}", found=found, valid=valid)


def _missing(plan: MixPlan, place: str, have: int, part: int, budget: int, left_out: Counter[str]) -> CorpusError:
    """The error that says how many tokens are missing and how many there are, rounded down so that the offer holds."""
    config = plan.config
    if config.general_tokens is not None:
        thing, offered = "general data", f"general_tokens = {have * budget // part} at most"
    else:
        thing, offered = "general data for this ratio", f"a ratio of {math.floor(1000 * config.ratio * have / part) / 1000:.3f} at most"
    left_out_general = Counter({r: n for r, n in left_out.items() if r.startswith("general")})
    found = f"{have} usable tokens, {part - have} missing" + (f" ({counts(left_out_general)})" if left_out_general else "")
    remedy = "more general files" if part == budget else "more of this source, a smaller share"
    return CorpusError(f"not enough {thing}", place=place, found=found, valid=f"{remedy}, or {offered}")


def draw_general(
    plan: MixPlan, tokenizer: BaseTokenizer, reserved: ReservedTexts, budget: int, spool: Spool, aside: Path, left_out: Counter[str]
) -> tuple[DrawnExamples, list[dict[str, int]]]:
    """Spools general examples of `budget` tokens. Returns them with each source's counts for mix.json. Raises CorpusError when tokens are missing."""
    drawn = DrawnExamples()
    with ExitStack() as stack:
        pools = [stack.enter_context(GeneralPool(s, aside / f"pool-{i}")) for i, s in enumerate(plan.general)]
        numbered = list(enumerate(pools))
        if any(s.share is not None for s in plan.general):
            for (i, pool), part in zip(numbered, parts_of(budget, plan.general), strict=True):
                if budget:
                    _check_part(plan, pool, part, budget, tokenizer)
                draw = _Draw(plan, [(i, pool)], f"general {plan.seed} {pool.source.label}")
                have = draw.until(part, tokenizer, reserved, spool, drawn, left_out)
                if have < part:
                    raise _missing(plan, pool.source.dataset or str(pool.source.path), have, part, budget, left_out)
                drawn.tokens += have
        else:
            drawn.tokens = _Draw(plan, numbered, f"general {plan.seed}").until(budget, tokenizer, reserved, spool, drawn, left_out)
            if drawn.tokens < budget:
                place = ", ".join(str(s.path) for s in plan.general)
                raise _missing(plan, place, drawn.tokens, budget, budget, left_out)
        return drawn, [{"lines": p.lines, "usable": len(p), "used": p.used, "tokens": p.tokens} for p in pools]
