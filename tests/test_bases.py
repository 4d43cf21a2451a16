"""Every class of bases through the commands, from fetching to serving: each works, or is refused in one sentence before anything is trained.

What is found is what tests/golden/bases.json has, from which scripts/write_bases.py writes docs/bases.md. The models are tiny and random: real weights are
not run.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import serve.engines.ct2.engine
import serve.engines.ct2.smoothquant
import tell.model.engine
import train.progress
from scripts.write_bases import DOCUMENT, ROWS, render
from tests.conftest import Ran
from tests.support.bases import CLASSES, OF_FILES, make_checkpoint
from tests.support.converting import converted_here
from tests.support.mixing import corpus

Here = Callable[..., Ran]
RECIPE = """pair = "is-en"
[train]
batch_tokens = 256
micro_tokens = 256
threads = 1
compile = "off"
dtype = "float32"
learning_rate = 1e-2
[lora]
rank = 8
[dev]
every = 1000
segments = 2
"""


def trained(here: Here, base: Path, *args: str) -> Ran:
    Path("recipe.toml").write_text(RECIPE)
    pairs = corpus(here, "corpus", n=30)
    here("mix", "--recipe", "recipe.toml", "--base", base, "--corpus", pairs, "--ratio", 0, "-o", "mixed")
    return here("train", "--recipe", "recipe.toml", "--mixed", "mixed", "--dev", pairs, "-o", "adapter", *args, ok=False)


@pytest.fixture(scope="module", autouse=True)
def little_to_collect() -> Iterator[None]:
    """What the libraries hold is looked through at every collection of the commands: a tenth of the time of this file."""
    import gc

    import transformers

    assert transformers.AutoModelForCausalLM
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def without_what_is_the_same_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The curves of a run, the search for engines among all packages, and most of the sentences that int8 is prepared on: half of the time of this file."""
    monkeypatch.setattr(train.progress, "draw", lambda *args, **options: None)
    monkeypatch.setattr(tell.model.engine, "_entry_point", functools.cache(tell.model.engine._entry_point))
    monkeypatch.setattr(serve.engines.ct2.smoothquant, "TEXTS", serve.engines.ct2.smoothquant.TEXTS[:4])
    monkeypatch.setattr(serve.engines.ct2.engine, "convert_model", converted_here)


@pytest.mark.parametrize("name", [*CLASSES, *OF_FILES])
def test_a_class_works_or_is_refused(name: str, here: Here, tiny_cache: Path, tmp_path: Path) -> None:
    base = make_checkpoint(name, tmp_path / "base", tiny_cache)
    engines = here("base", "fetch", base, "--json").json["engines"]
    row = {"class": (CLASSES | OF_FILES)[name][0], **engines}
    assert row == json.loads(ROWS.read_text())[name]
    served = [engine for engine, reason in engines.items() if reason is None]
    ran = trained(here, base)
    if "ct2" not in served:
        assert ran.code == 1 and "no engine here serves this base, and nothing is trained" in ran.err and engines["ct2"] in ran.err, ran.err
        assert ran.err.count("error") <= 1 and ("--engine vllm" in ran.err) == ("vllm" in served) and not Path("adapter").exists()
        ran = trained_again(here, "--engine", "vllm")
        if "vllm" not in served:
            assert ran.code == 1 and engines["vllm"] in ran.err and not Path("adapter").exists()
            return
    assert ran.code == 0, ran.err
    assert json.loads(Path("adapter/card.json").read_text())["training"]["dev"]["kept_step"]
    here("losses", "adapter", "--corpus", "corpus", "--split", "dev", "-o", "losses.jsonl")
    if "ct2" in served:
        here("score", "adapter", "--corpus", "corpus", "--limit", 2, "--engine", "ct2", "--metric", "chrf", "-o", "scores")
        here("publish", "adapter", "--corpus", "corpus", "--engine", "ct2", "--force", "--why", "a test", "--no-golden")


def trained_again(here: Here, *args: str) -> Ran:
    return here("train", "--recipe", "recipe.toml", "--mixed", "mixed", "--dev", "corpus", "-o", "adapter", *args, ok=False)


def test_the_document_is_that_of_the_rows() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == render(), "run: python -m scripts.write_bases"
