"""Translate a test set with the bare base and with adapters, and keep the hypotheses.

Reads a test set, a prepared base and adapter directories. Writes `<cache>/hypotheses/<key>.jsonl`, one row a segment, where the key is the hash of everything
that decides the text: so the base translates a set once for all adapters that share its prompt. While a set is being translated its rows are in `<key>.part`,
and a run that was broken off goes on from there.
"""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import tell.model.engine
from eval.scoring.scores import one_line
from eval.scoring.testset import TestSet
from tell.adapter.card import PROMPT_FILES, Adapter, hinter_of, retriever_of
from tell.adapter.translation import tokens_of
from tell.console import progress, say
from tell.errors import RequestError
from tell.files import key_of, write_jsonl
from tell.lexicon.hints import Hinter
from tell.model.anchor import Anchor
from tell.model.base import Base
from tell.model.engine import Decoding, Engine, EngineOptions, engine_version, traits_of
from tell.model.tokenizer import BaseTokenizer
from tell.model.translator import Translator
from tell.paths import cache_dir, writable
from tell.retrieval.retriever import Retriever

# Rows change when what they hold does; the number is part of every key.
FORMAT = 1
# The adapter in prompts without what the card's field of this name puts there; also the name of a file.
WITHOUT = {name: f"adapter-without-{name}" for name in PROMPT_FILES}


@dataclasses.dataclass(frozen=True, slots=True)
class System:
    """A translating system: the bare base (`adapter` None) or an adapter, with the anchor and decoding that go with it. `written`: the fields of the
    card that say what is written into its prompts beside the source."""

    name: str
    adapter: Adapter | None
    anchor: Anchor
    decoding: Decoding
    written: tuple[str, ...] = ()

    @classmethod
    def bare_base(cls, like: Adapter) -> System:
        """The base without an adapter, with the adapter's anchor and decoding; without its hints and nearest pairs, which the base was not trained to read."""
        return cls("base", None, like.card.anchor, like.card.decoding)

    @classmethod
    def of(cls, name: str, adapter: Adapter) -> System:
        return cls(name, adapter, adapter.card.anchor, adapter.card.decoding, tuple(adapter.card.prompt_parts))

    @classmethod
    def variants(cls, adapter: Adapter) -> list[System]:
        """The adapter as it is served, and where it has hints or nearest pairs the same without them: what they are worth."""
        served = cls.of("adapter", adapter)
        less = {name: tuple(other for other in served.written if other != name) for name in served.written}
        return [served, *(dataclasses.replace(served, name=WITHOUT[name], written=written) for name, written in less.items())]

    @property
    def prompt_parts(self) -> dict[str, Any]:
        return {name: parts for name, parts in self.adapter.card.prompt_parts.items() if name in self.written} if self.adapter else {}

    def hinter(self) -> Hinter | None:
        return hinter_of(self.adapter) if self.adapter is not None and "hints" in self.written else None

    def retriever(self) -> Retriever | None:
        return retriever_of(self.adapter) if self.adapter is not None and "retrieval" in self.written else None


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """A system's hypotheses, one line each, in the order of the test set.

    `truncated` were cut at the token limit; `too_long` did not fit in the context and stand as empty lines; `reused` rows came from the cache.
    """

    hypotheses: list[str]
    truncated: int
    too_long: int
    reused: int
    seconds: float
    # For each hypothesis, whether it was cut.
    cut: list[bool]

    @property
    def empty(self) -> int:
        return sum(not h.strip() for h in self.hypotheses)


def hypotheses_key(base: Base, system: System, test: TestSet, engine: str, max_context: int) -> str:
    return key_of(
        {
            "format": FORMAT,
            "base": [base.id, base.revision],
            # By the weights, not the id: publishing gives the same weights another card.
            "adapter": system.adapter and system.adapter.card.files,
            "anchor": system.anchor.model_dump(),
            "decoding": system.decoding.model_dump(),
            **system.prompt_parts,
            "sources": test.source_sha256,
            "segments": len(test.sources),
            "engine": [engine, engine_version(engine, base)],
            "max_context": max_context,
        }
    )


def _rows(path: Path, segments: int) -> dict[int, dict[str, Any]]:
    """The rows of a hypotheses file by segment, up to the first that is damaged (a run that died may have left half a line)."""
    rows: dict[int, dict[str, Any]] = {}
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return rows
    for line in lines[:-1]:
        try:
            row = json.loads(line)
            index = row["i"]
            is_row = 0 <= index < segments and isinstance(row["text"], str) and isinstance(row["truncated"], bool) and isinstance(row["too_long"], bool)
        except (ValueError, KeyError, TypeError, RecursionError):
            break
        if not is_row:
            break
        rows[index] = row
    return rows


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One run at a time per key: a second one waits, and then finds the rows of the first."""
    with path.open("a") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another run is translating the same segments; waiting for it")
            fcntl.flock(f, fcntl.LOCK_EX)
        yield


async def _translate_chunk(translator: Translator, test: TestSet, chunk: Sequence[int]) -> list[dict[str, Any]]:
    """The rows of the segments with these numbers; one that does not fit in the context is named on stderr."""
    rows = []
    for i, hypothesis in zip(chunk, await translator.translate_fitting([test.sources[i] for i in chunk]), strict=True):
        if isinstance(hypothesis, RequestError):
            say(f"{test.places[i]}: {hypothesis}; scored as an empty hypothesis")
            rows.append({"i": i, "text": "", "tokens": 0, "truncated": False, "too_long": True})
        else:
            text = one_line(hypothesis.text)
            rows.append({"i": i, "text": text, "tokens": hypothesis.tokens, "truncated": hypothesis.truncated, "too_long": False})
    return rows


async def _translate(engine: Engine, translator: Translator, system: System, test: TestSet, final: Path, chunk_size: int) -> None:
    partial = final.with_suffix(".part")
    earlier_rows = _rows(partial, len(test.sources))
    # The longest first: what does not fit in memory shows at once, and the time left is never too hopeful. The chunks are the same in every
    # run, since the numbers of a batch, and with them now and then a word, depend on what else is in it.
    order = sorted(range(len(test.sources)), key=lambda i: (-len(test.sources[i]), i))
    chunks = [order[k : k + chunk_size] for k in range(0, len(order), chunk_size)]
    missing_chunks = [c for c in chunks if not all(i in earlier_rows for i in c)]
    rows = [earlier_rows[i] for c in chunks if c not in missing_chunks for i in c]
    # Written anew, so that the next row never follows half a line.
    write_jsonl(partial, rows)
    say(f"{system.name}: {len(test.sources):,} segments of {test.name} with {engine.name}" + (f", {len(rows):,} from an earlier run" if rows else ""))
    if system.adapter is not None and missing_chunks:
        await engine.load(system.adapter.id, system.adapter.path)
    with partial.open("a", encoding="utf-8") as f, progress() as bar:
        task = bar.add_task(f"translate ({system.name})", total=len(test.sources), completed=len(rows))
        for chunk in missing_chunks:
            chunk_rows = await _translate_chunk(translator, test, chunk)
            f.write("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in chunk_rows))
            f.flush()
            rows += chunk_rows
            bar.advance(task, len(chunk_rows))
    if system.adapter is not None and missing_chunks:
        await engine.unload(system.adapter.id)
    write_jsonl(final, sorted(rows, key=lambda r: int(r["i"])))
    partial.unlink(missing_ok=True)


async def _translate_all(base: Base, systems: list[tuple[System, Path]], test: TestSet, engine_name: str, options: EngineOptions) -> dict[str, float]:
    tokens = BaseTokenizer(base)
    engine = tell.model.engine.open_engine(engine_name, options)
    seconds = {}
    try:
        await engine.start()
        for system, path in systems:
            began = time.monotonic()
            adapter_id = None if system.adapter is None else system.adapter.id
            aids = system.hinter(), system.retriever()
            own = tokens if system.adapter is None else tokens_of(system.adapter, tokens, traits_of(engine))
            translator = Translator(engine, own, system.anchor, system.decoding, adapter_id, options.max_context, *aids)
            await _translate(engine, translator, system, test, path, traits_of(engine).segments_per_step)
            seconds[system.name] = time.monotonic() - began
    finally:
        await engine.close()
    return seconds


def translate_set(base: Base, systems: list[System], test: TestSet, engine: str = "auto") -> dict[str, Output]:
    """The outputs of `systems` on `test`, by name. The engine is started only when some hypotheses are not in the cache yet."""
    engine = tell.model.engine.choose_engine(engine)
    ranks = [system.adapter.card.rank for system in systems if system.adapter is not None]
    options = EngineOptions(base, max_adapters=2, max_rank=max([16, *ranks]))
    options = dataclasses.replace(options, max_context=min(options.max_context, base.context))
    root = writable(cache_dir() / "hypotheses", "cache", "TELLMT_CACHE")
    paths = {system.name: root / f"{hypotheses_key(base, system, test, engine, options.max_context)}.jsonl" for system in systems}
    seconds: dict[str, float] = {}
    cached_rows = {}
    with ExitStack() as locks:
        # In one order for every run, so that two of them cannot wait for each other.
        for path in sorted(paths.values()):
            locks.enter_context(_locked(path.with_suffix(".lock")))
        for system in systems:
            cached_rows[system.name] = len(_rows(paths[system.name], len(test.sources)))
        missing = [system for system in systems if cached_rows[system.name] != len(test.sources)]
        if missing:
            seconds = asyncio.run(_translate_all(base, [(system, paths[system.name]) for system in missing], test, engine, options))
        outputs = {}
        for system in systems:
            rows = _rows(paths[system.name], len(test.sources))
            if cached_rows[system.name] == len(test.sources):
                say(f"{system.name}: {len(rows):,} segments of {test.name}, reused from the cache")
            outputs[system.name] = Output(
                [rows[i]["text"] for i in range(len(test.sources))],
                sum(r["truncated"] for r in rows.values()),
                sum(r["too_long"] for r in rows.values()),
                cached_rows[system.name] if system not in missing else 0,
                round(seconds.get(system.name, 0.0), 2),
                [bool(rows[i]["truncated"]) for i in range(len(test.sources))],
            )
    return outputs
