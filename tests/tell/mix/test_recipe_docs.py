"""docs/recipes.md is the recipe reference: every key of every table is in it, with the default that the code has, and no key that is not one."""

from __future__ import annotations

import re
import tomllib

import pytest
from pydantic import BaseModel

from tell.mix.config import MixConfig, SourceConfig
from tell.mix.hinting import HintConfig
from tell.mix.retrieving import RetrievalConfig
from tell.model.anchor import AnchorConfig
from tell.model.engine import Decoding
from tell.recipe import TOP
from tests.conftest import ROOT
from train.config import DevOptions, LoraOptions, TrainOptions

TEXT = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
TABLES: dict[str, type[BaseModel]] = {
    "[anchor]": AnchorConfig,
    "[mix]": MixConfig,
    "[[mix.sources]]": SourceConfig,
    "[hints]": HintConfig,
    "[retrieval]": RetrievalConfig,
    "[train]": TrainOptions,
    "[lora]": LoraOptions,
    "[dev]": DevOptions,
    "[decoding]": Decoding,
}


def listed(heading: str) -> dict[str, str]:
    """Key and default of each row of the first table under a heading."""
    section = TEXT.split(f"# {heading}\n", 1)[1]
    return dict(re.findall(r"^\| `([a-z_]+)` \| (.*?) \|", re.split(r"^#", section, flags=re.M)[0], re.M))


@pytest.mark.parametrize("heading", TABLES)
def test_every_key_is_in_the_reference(heading: str) -> None:
    rows, fields = listed(heading), TABLES[heading].model_fields
    assert rows.keys() == fields.keys()
    for key, field in fields.items():
        default = field.default
        # Words stand for None, which TOML cannot write.
        if default is None:
            assert not rows[key].startswith("`"), key
        else:
            assert tomllib.loads(f"x = {rows[key].strip('`')}")["x"] == default, key


def test_the_top_is_in_the_reference() -> None:
    assert listed("Recipes").keys() == {k for k in TOP if f"[{k}]" not in TABLES}


def test_the_example_is_a_recipe() -> None:
    found = re.findall(r"^```toml\n(.*?)^```", TEXT, re.M | re.S)
    assert found
    for block in found:
        MixConfig.model_validate(tomllib.loads(block)["mix"])
