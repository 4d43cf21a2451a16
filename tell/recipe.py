"""Recipes: TOML files that say how an adapter is made. Each table's model lives beside the code that owns it.

pair, base, seed      here
notes                 here: what the adapter's card is to say, such as attributions that the data's licences ask for
[anchor]              tell.model.anchor.AnchorConfig
[mix]                 tell.mix.build.MixConfig
[hints]               tell.mix.hinting.HintConfig
[retrieval]           tell.mix.retrieving.RetrievalConfig
[train], [lora]       train.config
[dev]                 train.config
[decoding]            tell.model.engine.Decoding
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tell.errors import RecipeError, suggestion

TOP = ("pair", "base", "seed", "anchor", "mix", "hints", "retrieval", "train", "lora", "dev", "decoding", "notes")

M = TypeVar("M", bound=BaseModel)


def read_toml(path: Path) -> dict[str, Any]:
    """Raises RecipeError when the file is missing, not UTF-8, or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError("no such recipe", place=str(path)) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise RecipeError("not a readable TOML file", place=str(path), found=str(e)) from None


def validated(model: type[M], table: Any, place: str) -> M:
    """`table` as a `model`. Raises RecipeError naming the key, what was found and what is valid (with the nearest key)."""
    if not isinstance(table, dict):
        raise RecipeError("not a table", place=place, found=repr(table))
    unknown = [k for k in table if k not in model.model_fields]
    if unknown:
        raise RecipeError("unknown key", place=place, found=unknown[0], valid=suggestion(unknown[0], model.model_fields))
    try:
        return model.model_validate(table)
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join(str(x) for x in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        # What concerns several keys has no key of its own, and the table is too long to show.
        raise RecipeError(f"{key}: {said}" if key else said, place=place, found=repr(first["input"]) if key else None) from None


def load_recipe(path: Path) -> dict[str, Any]:
    """The recipe's tables, its top-level names checked; each owner validates its own table with `validated`."""
    recipe = read_toml(path)
    unknown = [k for k in recipe if k not in TOP]
    if unknown:
        raise RecipeError("unknown key", place=str(path), found=unknown[0], valid=suggestion(unknown[0], TOP))
    seed = recipe.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise RecipeError("seed: not a whole number", place=str(path), found=repr(seed), valid="0 or more")
    for key in ("pair", "base"):
        if key in recipe and not isinstance(recipe[key], str):
            raise RecipeError(f"{key}: not a string", place=str(path), found=repr(recipe[key]))
    notes = recipe.get("notes", [])
    if not isinstance(notes, list) or not all(isinstance(n, str) for n in notes):
        raise RecipeError("notes: not a list of strings", place=str(path), found=repr(notes))
    return recipe
