"""A fake behind the engine's protocol, for scoring and the gate: a base that reads no weights, adapters whose quality a test sets.

The base's tokenizer and the adapters' files are real, so everything on this side of the protocol (prompts, cards, hashes, registry) is what runs
in earnest. What an adapter "translates" is looked up: the reference with some of its words spoilt.
"""

from __future__ import annotations

import dataclasses
import json
import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tell.adapter.card import CONFIG, WEIGHTS, Adapter, BaseRef, Card, open_adapter, write_card
from tell.files import key_of, sha256_bytes, sha256_file, write_json
from tell.languages import parse_pair
from tell.model.anchor import AnchorConfig, render
from tell.model.base import MANIFEST, Base
from tell.model.engine import EngineOptions, Generation, Prompt
from tell.model.tokenizer import BaseTokenizer
from tell.paths import cache_dir
from tell.records import Pair, read_pairs


def light_base(cache: Path, base_id: str = "light", revision: str = "r" * 64, context: int = 2048) -> Base:
    """A prepared base with a byte-level tokenizer and no weights: what runs no engine needs none."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    path = cache / "bases" / base_id
    path.mkdir(parents=True, exist_ok=True)
    vocabulary = {c: i for i, c in enumerate(["<pad>", "<eos>", "<bos>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "<eos>", "<bos>"])
    tokenizer.save(str(path / "tokenizer.json"))
    base = Base(
        id=base_id,
        revision=revision,
        path=path,
        bos_id=2,
        eos_ids=[1],
        context=context,
        architecture="None",
        parameters="none",
        licence="CC0",
        notice="",
        files={"tokenizer.json": sha256_file(path / "tokenizer.json")},
    )
    write_json(path / MANIFEST, base.model_dump(mode="json"))
    return base


def safetensors(tensors: dict[str, list[int]], fill: int = 0) -> bytes:
    """A safetensors file of float32 tensors of these shapes."""
    header: dict[str, object] = {}
    at = 0
    for name, shape in tensors.items():
        size = 4 * shape[0] * shape[1]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + bytes((i * 31 + fill) % 63 for i in range(at))


def light_adapter(path: Path, base: Base, pair: str = "is-en", seed: int = 0, rank: int = 4, data: dict[str, object] | None = None) -> Adapter:
    path.mkdir(parents=True, exist_ok=True)
    stem = "base_model.model.model.layers.0.self_attn.q_proj"
    (path / WEIGHTS).write_bytes(safetensors({f"{stem}.lora_A.weight": [rank, 8], f"{stem}.lora_B.weight": [8, rank]}, fill=seed))
    (path / CONFIG).write_text(json.dumps({"r": rank, "peft_type": "LORA"}))
    card = Card(
        pair=str(parse_pair(pair)),
        base=BaseRef(id=base.id, revision=base.revision),
        anchor=render(AnchorConfig(), parse_pair(pair)),
        rank=rank,
        recipe={},
        seed=seed,
        data=data or {},
        training={},
        versions={"peft": "0.20"},
        files={n: sha256_file(path / n) for n in (WEIGHTS, CONFIG)},
    )
    write_card(path, card)
    return open_adapter(path)


def corpus_dir(path: Path, pair: str = "is-en", train: int = 20, dev: int = 40, test: int = 30, mark: str = "") -> Path:
    """A finished corpus of distinct made-up sentences, as `corpus build` leaves it."""
    words = ["hús", "hestur", "fjall", "dagur", "veður", "kaffi", "bók", "vegur", "skip", "ljós"]
    other = ["house", "horse", "mountain", "day", "weather", "coffee", "book", "road", "ship", "light"]
    draw = random.Random(5)
    rows = []
    for split, n in (("train", train), ("dev", dev), ("test", test)):
        for i in range(n):
            picked = [draw.randrange(len(words)) for _ in range(6)]
            ending = f" {split} {i}{mark}."
            rows.append(Pair(" ".join(words[k] for k in picked) + ending, " ".join(other[k] for k in picked) + ending, f"d{i}", i + 1, "made", split))  # type: ignore[arg-type]
    path.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(r.row(), ensure_ascii=False) + "\n" for r in rows).encode()
    (path / "pairs.jsonl").write_bytes(data)
    splits = {s: {"pairs": n, "docs": n} for s, n in (("train", train), ("dev", dev), ("test", test))}
    counts = {"read": len(rows), "kept": len(rows), "dropped": {}, "splits": splits}
    report = {"pair": pair, **counts, "pairs_sha256": sha256_bytes(data), "sources": [], "against": []}
    write_json(path / "corpus.json", {"key": key_of(report), **report})
    return path


class FakeEngine:
    """Implements `tell.model.engine.Engine`. `spoilt` is the share of words that come out wrong, by the seed on the adapter's card (None: the base);
    `loops` the share of segments that end in a loop, by the penalty on repetition, `twists` what becomes
    of the others under it.

    `calls` gets (seed, number of prompts) for every batch; after `die_after` of them the next one is interrupted, as by Ctrl-C.
    """

    def __init__(self, options: EngineOptions, known: dict[str, str], spoilt: dict[int | None, float], calls: list[tuple[int | None, int]]):
        self.name, self.base, self.options = "fake", options.base, options
        self.tokens, self.known, self.spoilt, self.calls = BaseTokenizer(options.base), known, spoilt, calls
        self.adapters: dict[str, int] = {}
        self.die_after: int | None = None
        self.loops: dict[float, float] = {}
        self.twists: dict[float, Callable[[list[str]], list[str]]] = {}

    async def start(self) -> None: ...

    async def load(self, adapter_id: str, path: Path) -> None:
        self.adapters[adapter_id] = open_adapter(path).card.seed

    async def unload(self, adapter_id: str) -> None:
        del self.adapters[adapter_id]

    async def generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        seed = None if adapter_id is None else self.adapters[adapter_id]
        if self.die_after is not None and len(self.calls) >= self.die_after:
            raise KeyboardInterrupt
        self.calls.append((seed, len(prompts)))
        out = []
        for prompt in prompts:
            text = self.tokens.decode(list(prompt.ids))
            source = max((s for s in self.known if s in text), key=len)
            draw = random.Random(f"{seed} {source}")
            words = ["xqz" if draw.random() < self.spoilt[seed] else w for w in self.known[source].split(" ")]
            if random.Random(source).random() < self.loops.get(prompt.repetition_penalty, 0.0):
                words = [*words[:2], *8 * words[1:3]]
            else:
                words = self.twists.get(prompt.repetition_penalty, list)(words)
            out.append(Generation(" ".join(words), len(words), "stop"))
        return out

    def loaded(self) -> list[str]:
        return list(self.adapters)

    async def healthy(self) -> bool:
        return True

    async def close(self) -> None:
        self.adapters.clear()


@dataclasses.dataclass
class Bench:
    """What a test of scoring needs: a base in the cache, a corpus, and `tellmt` run in this process over the fake engine."""

    root: Path
    base: Base
    corpus: Path
    known: dict[str, str]
    spoilt: dict[int | None, float]
    calls: list[tuple[int | None, int]]
    engines: list[FakeEngine]
    die_after: int | None = None
    loops: dict[float, float] = dataclasses.field(default_factory=dict)
    twists: dict[float, Callable[[list[str]], list[str]]] = dataclasses.field(default_factory=dict)

    def open_engine(self, name: str, options: EngineOptions) -> FakeEngine:
        engine = FakeEngine(options, self.known, self.spoilt, self.calls)
        engine.die_after, engine.loops, engine.twists = self.die_after, self.loops, self.twists
        self.engines.append(engine)
        return engine

    def adapter(self, name: str, seed: int, **options: Any) -> Adapter:
        return light_adapter(self.root / name, self.base, seed=seed, **options)


def make_bench(root: Path, monkeypatch: pytest.MonkeyPatch, dev: int = 40) -> Bench:
    """The base spoils 70 % of the words; adapters of seed 1 spoil 10 %, of seed 2 40 %, of seed 3 90 %."""
    corpus = corpus_dir(root / "corpus", dev=dev)
    translations = {p.source: p.target for p in read_pairs(corpus / "pairs.jsonl")}
    bench = Bench(root, light_base(cache_dir()), corpus, translations, {None: 0.7, 1: 0.1, 2: 0.4, 3: 0.9}, [], [])
    monkeypatch.setattr("tell.model.engine.open_engine", bench.open_engine)
    return bench
