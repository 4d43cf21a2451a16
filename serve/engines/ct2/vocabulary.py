"""A converted model with a part of its base's vocabulary: which rows are written, and the ids by which the engine asks it.

A model that is written for an adapter with `pieces.json` (tell.model.pieces) has a row of the embedding and of the output layer for each piece that is kept, in
the order of the base's ids. Prompts and outputs have the base's ids everywhere else.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Beside ctranslate2's own files: the base's id of each row. A model without it has all rows.
FILE = "tellmt-pieces.json"


def cut_spec(spec: Any, kept: Sequence[int]) -> None:
    """Leave the rows of `kept` alone in the specification of a decoder, and their names in its vocabulary.

    Raises ValueError where the specification has other parts that go by words: nothing is known of how to cut them.
    """
    import numpy as np

    rows = np.array(kept, dtype=np.int64)
    names = spec._vocabulary
    embeddings, projection = spec.decoder.embeddings, spec.decoder.projection
    if isinstance(embeddings, list | tuple) and len(embeddings) == 1:
        embeddings = embeddings[0]
    cut: dict[int, Any] = {}
    for module in (embeddings, projection):
        for name in ("weight", "bias", "weight_scale"):
            value = getattr(module, name, None)
            if value is None or not getattr(value, "shape", ()):
                continue
            if value.shape[0] != len(names):
                raise ValueError(f"{name} of {value.shape[0]} rows for {len(names)} words")
            # One matrix may serve as both, and is written once.
            if id(value) not in cut:
                cut[id(value)] = _rows(value, rows)
            setattr(module, name, cut[id(value)])
    spec.register_vocabulary([names[i] for i in kept])


def _rows(value: Any, rows: Any) -> Any:
    """The rows of one of ctranslate2's variables, which hold a numpy array or a torch tensor."""
    if hasattr(value, "tensor"):
        import torch

        return type(value)(value.tensor[torch.from_numpy(rows)].contiguous())
    return type(value)(value.array[rows]) if hasattr(value, "array") else value[rows]


class Vocabulary:
    """The names by which ctranslate2 takes a model's tokens, and the base's ids of what it answers with."""

    def __init__(self, names: list[str], ids: Sequence[int] | None = None):
        """`ids`: the base's id of each row, ascending; None where they are the same."""
        self._names = names
        self._ids = None if ids is None else array("i", ids)
        self._rows = None if ids is None else {id: row for row, id in enumerate(ids)}

    @classmethod
    def read(cls, directory: Path, whole: list[str] | None = None) -> Vocabulary:
        """That of a converted model. `whole`: the names of the base's whole vocabulary, read before, which all models share that have it."""
        if not (directory / FILE).is_file():
            return cls(whole or json.loads((directory / "vocabulary.json").read_bytes()))
        return cls(json.loads((directory / "vocabulary.json").read_bytes()), json.loads((directory / FILE).read_bytes())["ids"])

    @property
    def whole(self) -> list[str] | None:
        """The names of the base's whole vocabulary, where the model has that."""
        return self._names if self._ids is None else None

    def names(self, ids: Sequence[int]) -> list[str]:
        """Raises KeyError for an id that the model has no row for: prompts are spelled with those that it has (tell.model.pieces)."""
        return [self._names[i] for i in ids] if self._rows is None else [self._names[self._rows[i]] for i in ids]

    def base_ids(self, rows: Sequence[int]) -> list[int]:
        return list(rows) if self._ids is None else [self._ids[row] for row in rows]

    def rows(self, ids: Sequence[int]) -> list[int]:
        """The rows of those ids that the model has: of the tokens that end an output, it cannot write the others."""
        return list(ids) if self._rows is None else [self._rows[i] for i in ids if i in self._rows]
