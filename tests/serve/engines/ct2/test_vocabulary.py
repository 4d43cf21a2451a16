"""Models with a part of their base's vocabulary, beside those of the whole, on the tiny base."""

from __future__ import annotations

import asyncio
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from serve.engines.ct2.convert import Conversion
from serve.engines.ct2.engine import Ct2Engine
from serve.engines.ct2.model_cache import MARK
from serve.engines.ct2.vocabulary import FILE, Vocabulary
from tell.adapter.card import Adapter
from tell.adapter.translation import translator_of
from tell.errors import AdapterError
from tell.files import key_of
from tell.model.base import Base
from tell.model.engine import EngineOptions
from tell.model.pieces import Pieces
from tell.model.tokenizer import BaseTokenizer
from tests.support.converting import converted_here
from tests.support.kept import pieces_for, with_pieces
from tests.support.tiny import make_tiny_adapter

SEEN = ["The house is large.", "Húsið er stórt."]
# Scripts, signs and words that the pair never saw.
UNSEEN = ["สวัสดีครับ", "Καλημέρα Ξανθίππη", "日本語 🙂 {name} %s", "Forsætisráðherrann sagði", "a\u2028b\x01", "x" * 200]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, tiny_cache: Path) -> Path:
    place = tmp_path_factory.mktemp("models")
    (place / "bases").symlink_to(tiny_cache / "bases")
    return place


@pytest.fixture
def base(tiny: Base, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Base:
    monkeypatch.setenv("TELLMT_CACHE", str(cache))
    monkeypatch.setattr("serve.engines.ct2.engine.convert_model", converted_here)
    return tiny


@pytest.fixture
def adapters(base: Base, tmp_path: Path) -> dict[str, Adapter]:
    """One set of weights with the whole vocabulary, with all of it as a list, and with a part."""
    made = {name: make_tiny_adapter(tmp_path / name, base) for name in ("whole", "listed", "part")}
    size = pieces_for(base).size
    return {
        "whole": made["whole"],
        "listed": with_pieces(made["listed"], Pieces.of(range(size), size)),
        "part": with_pieces(made["part"], pieces_for(base, SEEN)),
    }


def translated(base: Base, adapters: dict[str, Adapter], texts: list[str]) -> dict[str, list[Any]]:
    async def go() -> dict[str, list[Any]]:
        engine = Ct2Engine(EngineOptions(base=base, max_rank=8, threads=1))
        await engine.start()
        try:
            outputs = {}
            for name, adapter in adapters.items():
                await engine.load(adapter.id, adapter.path)
                outputs[name] = await translator_of(engine, BaseTokenizer(base), adapter, 512).translate(texts)
            # They stay side by side, and the bare base has the whole.
            assert sorted(engine.loaded()) == sorted(a.id for a in adapters.values())
            return outputs
        finally:
            await engine.close()

    return asyncio.run(go())


def test_a_part_of_the_vocabulary_beside_the_whole(base: Base, adapters: dict[str, Adapter]) -> None:
    texts = [*SEEN, *UNSEEN]
    outputs = translated(base, adapters, texts)
    assert [t.text for t in outputs["listed"]] == [t.text for t in outputs["whole"]]
    assert all(t.text for t in outputs["part"][:2])
    # Made of what is kept alone: little more than bytes, and "house".
    tokens, kept = BaseTokenizer(base), set(pieces_for(base, SEEN).kept)
    produced = [i for t in outputs["part"] for i in tokens.encode(t.text)]
    assert produced and len(outputs["part"]) == len(texts)
    whole, part = (Conversion(base, adapters[name], 1) for name in ("whole", "part"))
    assert whole.done() and part.done() and whole.directory != part.directory
    sizes = [(c.directory / "model.bin").stat().st_size for c in (whole, part)]
    assert sizes[1] < sizes[0] - 0.5 * (1024 - len(kept)) * 64
    assert json.loads((part.directory / FILE).read_bytes())["ids"] == sorted(kept) and not (whole.directory / FILE).exists()
    mark = json.loads((part.directory / MARK).read_text())
    assert mark["pieces"] == part.pieces and mark["weights"] == whole.weights


def test_what_a_cut_model_computes_is_the_whole_ones_share(base: Base, adapters: dict[str, Adapter]) -> None:
    """Log-probabilities over the pieces that are kept, of the same prompt, in float32."""
    import ctranslate2
    import numpy as np
    import torch

    from serve.engines.ct2.loading import log_probs

    found = []
    ids = [2, *translator_ids(base, adapters["part"])]
    for name in ("whole", "part"):
        path = asyncio.run(converted_here(Conversion(base, adapters[name], 1)))
        vocabulary = Vocabulary.read(path)
        model = ctranslate2.Generator(str(path), device="cpu", compute_type="float32", intra_threads=1)
        found.append((vocabulary, np.array(model.forward_batch([vocabulary.names(ids)], return_log_probs=True))[0]))
    computed = found[1][1]
    expected = log_probs(torch.from_numpy(found[0][1]), pieces_for(base, SEEN).kept).numpy()
    assert computed.shape[1] == len(pieces_for(base, SEEN).kept) < 1024
    assert np.abs(np.exp(computed).sum(-1) - 1).max() < 1e-4
    # Rows are rounded to int8 one by one, and layers after the same texts.
    assert np.abs(computed - expected).max() < 1e-3


def translator_ids(base: Base, adapter: Adapter) -> list[int]:
    from tell.adapter.translation import tokens_of

    return tokens_of(adapter, BaseTokenizer(base), Ct2Engine.traits).encode("The house is large. สวัสดี")


def test_what_was_converted_before_there_were_pieces_is_still_that_adapters_model(base: Base, adapters: dict[str, Adapter]) -> None:
    whole = Conversion(base, adapters["whole"], 1)
    before = {"format": 2, "base": base.revision, "weights": whole.weights, "quantization": "int8", "ctranslate2": version("ctranslate2")}
    assert whole.key == key_of(before) and whole.directory.name == f"tiny-{base.revision[:12]}-{whole.weights}"
    assert "pieces" not in whole.job()["adapter"] or whole.job()["adapter"]["pieces"] is None


def test_pieces_of_another_base_are_refused_and_leave_nothing(base: Base, adapters: dict[str, Adapter]) -> None:
    wrong = with_pieces(adapters["whole"], Pieces.of(range(900), 2048))
    with pytest.raises(AdapterError, match=r"of another vocabulary.*of 2,048 ids.*1,024 ids"):
        asyncio.run(converted_here(Conversion(base, wrong, 1)))
    assert not Conversion(base, wrong, 1).directory.exists()
    assert not list((Path(os.environ["TELLMT_CACHE"]) / "ct2").glob(".*.new.*"))
