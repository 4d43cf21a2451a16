"""`tellmt losses`: each held-out segment's loss is transformers' own, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tell.model.tokenizer import BaseTokenizer
from tell.records import read_pairs


@pytest.fixture
def corpus(cli: Any) -> Path:
    names = ["".join(chr(ord("a") + int(d)) for d in f"{i:03}") for i in range(40)]
    rows = [f"d{i // 4}\tThis is called {n}{' and more' * (i % 3)}\tÞetta heitir {n}{' og fleira' * (i % 3)}" for i, n in enumerate(names)]
    Path("c.tsv").write_text("\n".join(["document\ten\tis", *rows]) + "\n", encoding="utf-8")
    cli("corpus", "build", "c.tsv", "--pair", "is-en", "--dev", 8, "--test", 0, "-o", "c")
    return Path("c")


def adapter(cli: Any, corpus: Path) -> Path:
    Path("r.toml").write_text(
        'pair = "is-en"\nbase = "tiny"\nnotes = ["after a licence"]\n[mix]\nratio = 0\n[train]\nlearning_rate = 0.01\nbatch_tokens = 256\n[lora]\nrank = 8\n'
    )
    cli("mix", "--recipe", "r.toml", "--corpus", corpus, "-o", "m")
    cli("train", "--recipe", "r.toml", "--mixed", "m", "-o", "a")
    return Path("a")


def test_the_losses_are_the_models_own(cli: Any, tiny: Any, corpus: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    trained = adapter(cli, corpus)
    ran = cli("losses", trained, "--corpus", corpus, "-o", "l.jsonl", "--json")
    rows = [json.loads(x) for x in Path("l.jsonl").read_text().split("\n") if x]
    card = json.loads((trained / "card.json").read_text())
    # What a recipe notes is on the card.
    assert card["notes"] == ["after a licence"]
    pairs = read_pairs(corpus / "pairs.jsonl", "dev")
    assert [r["line"] for r in rows] == list(range(1, len(pairs) + 1)) and ran.json["segments"] == len(pairs)
    model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny.path, dtype=torch.float32), trained)
    tokenizer = BaseTokenizer(tiny)
    for pair, row in zip(pairs, rows, strict=True):
        prompt = tokenizer.bos + tokenizer.encode(f"{card['anchor']['prefix']}{pair.source}\n\n") + tokenizer.encode(card["anchor"]["opening"])
        reference = tokenizer.encode(pair.target) + tokenizer.eos_ids[:1]
        labels = torch.tensor([[-100] * len(prompt) + reference])
        expected = model(input_ids=torch.tensor([prompt + reference]), labels=labels).loss.item()
        assert row["tokens"] == len(reference)
        # The command may compute in bfloat16.
        assert row["nats"] / row["tokens"] == pytest.approx(expected, rel=0.02)
    total = sum(r["nats"] for r in rows) / sum(r["tokens"] for r in rows)
    assert ran.json["nats_per_token"] == pytest.approx(total)


def test_what_is_refused(cli: Any, tiny: Any, corpus: Path) -> None:
    trained = adapter(cli, corpus)
    for args, message in (
        (("nowhere", "--corpus", corpus), "no such adapter directory"),
        ((trained, "--corpus", "nowhere"), "not a corpus"),
        ((trained, "--corpus", corpus, "--split", "test"), "0 segments"),
        ((trained, "--corpus", corpus, "--split", "train"), "'test', 'dev'"),
    ):
        ran = cli("losses", *args, "-o", "l.jsonl", ok=False)
        assert ran.code in (1, 2) and message in ran.err and not Path("l.jsonl").exists()
    cli("corpus", "build", "c.tsv", "--pair", "en-is", "--dev", 8, "--test", 0, "-o", "e")
    ran = cli("losses", trained, "--corpus", "e", "-o", "l.jsonl", ok=False)
    assert ran.code == 2 and "another pair" in ran.err
    Path("r.toml").write_text('notes = "one"\n')
    ran = cli("train", "--recipe", "r.toml", "--mixed", "m", "-o", "b", ok=False)
    assert ran.code == 2 and "notes: not a list of strings" in ran.err
