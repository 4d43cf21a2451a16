"""Write a model of transformers that is in memory as one of ctranslate2."""

from __future__ import annotations

import functools
import gc
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from serve.engines.ct2.corrections import correct_model, correct_spec
from serve.engines.ct2.loading import Rows, rows_of
from serve.engines.ct2.vocabulary import cut_spec

# Formats whose matrices ctranslate2 rounds row by row.
BY_ROW = ("int8", "int8_float32", "int8_float16", "int8_bfloat16")


def write_model(
    source: Path, model: Any, directory: Path, quantization: str | None, kept: Sequence[int] | None = None, names: Sequence[str] | None = None
) -> None:
    """Write `model`, whose configuration and tokenizer lie in `source`, to `directory`. The model is used up: its layers are taken out of it.
    `kept`: the ids of the vocabulary that are written, ascending; None for all. `names`: those of the whole vocabulary, where they are known.

    Raises what ctranslate2 does: ValueError for a class that it does not know, and in one that it knows in another form whatever is missing there.
    """
    from ctranslate2.converters import TransformersConverter

    class Loaded(TransformersConverter):  # type: ignore[misc]
        """Converts a model that is in memory, where the original reads one from disk."""

        def load_model(self, model_class: Any, path: str, **options: Any) -> Any:
            return model

        def load_tokenizer(self, tokenizer_class: Any, path: str, **options: Any) -> Any:
            return _Tokenizer(source, names, functools.partial(super().load_tokenizer, tokenizer_class, path, **options))

        def _load(self) -> Any:
            spec = super()._load()
            correct_spec(spec, model)
            left = {id(m.weight): rows for m in model.modules() if (rows := rows_of(m)) is not None}
            for module in model.modules():
                # From here on the specification alone holds the weights, and lets go of each as it is rounded.
                module._parameters.clear()
                for name in ("left_in_file", "forward"):
                    module.__dict__.pop(name, None)
            if left:
                _read_by_rows(spec, left, quantization)
            if kept is not None:
                cut_spec(spec, kept)
            return spec

    correct_model(model)
    # The converter collects garbage after each layer, which goes through all that torch and transformers have.
    gc.freeze()
    try:
        Loaded(str(source)).convert(str(directory), quantization=quantization, force=True)
    finally:
        gc.unfreeze()


class _Tokenizer:
    """What a converter asks of a tokenizer, from its files: to make the object of transformers takes ten times as long, and only where anything else is asked
    for is it made."""

    def __init__(self, source: Path, names: Sequence[str] | None, whole: Callable[[], Any]):
        self._names = names
        self._source, self._whole = source, functools.cache(whole)
        try:
            self._config: dict[str, Any] = json.loads((source / "tokenizer_config.json").read_text())
        except (OSError, ValueError):
            self._config = {}
        if not (source / "tokenizer.json").is_file() or (source / "special_tokens_map.json").exists():
            # Older checkpoints spread over several files what transformers puts together.
            self._config = {}

    def get_vocab(self) -> dict[str, int]:
        if not self._config:
            vocabulary: dict[str, int] = self._whole().get_vocab()
            return vocabulary
        if self._names is not None:
            return {name: i for i, name in enumerate(self._names)}
        from tokenizers import Tokenizer

        names: dict[str, int] = Tokenizer.from_file(str(self._source / "tokenizer.json")).get_vocab(with_added_tokens=True)
        return names

    def __getattr__(self, name: str) -> Any:
        value = self._config.get(name) if name in ("bos_token", "eos_token", "unk_token") else None
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str):
            return value
        if name == "chat_template" and self._config and name not in self._config and not any(self._source.glob("*chat_template*")):
            return None
        return getattr(self._whole(), name)


def _read_by_rows(spec: Any, left: dict[int, Rows], quantization: str | None) -> None:
    """Let the matrices that were left in the file be rounded a few rows at a time. `left` has them by what the converter took for their weights."""
    import numpy as np
    import torch
    from ctranslate2.specs import common_spec, model_spec

    class Matrix(model_spec.Variable):  # type: ignore[misc]
        """What the specification holds in place of the weights until they are rounded."""

        shape = property(lambda self: self.rows.shape)
        dtype = "float32"

        def __init__(self, rows: Rows):
            self.rows = rows

        def __getitem__(self, kept: Any) -> Any:
            return Matrix(self.rows.keep(kept.tolist()))

        def _equal(self, other: Any) -> bool:
            return self.rows is other.rows

        def numpy(self) -> Any:
            return torch.cat([block for _, block in self.rows.blocks()]).numpy()

        def num_bytes(self) -> int:
            return 4 * math.prod(self.rows.shape)

        def to_bytes(self) -> bytes:
            return bytes(self.numpy().tobytes())

        def _to(self, dtype: str) -> Any:
            return model_spec.NumpyVariable(self.numpy()).to(dtype)

    # One matrix may serve as embeddings and as output layer.
    matrices = {id: Matrix(rows) for id, rows in left.items()}

    def take(part: Any, name: str, value: Any) -> None:
        if (matrix := matrices.get(id(value))) is not None:
            setattr(part, name.rpartition("/")[2], matrix)
        elif getattr(value, "is_meta", False):
            raise NotImplementedError(f"{name} is made of weights that are not in memory")

    def rounded(rows: Rows) -> tuple[Any, Any]:
        """As ctranslate2 does it, which takes four times a whole matrix in float32."""
        values: Any = np.empty(rows.shape, np.int8)
        scales: Any = np.empty(rows.shape[:1], np.float32)
        for start, block in rows.blocks():
            part = common_spec.LinearSpec()
            part.weight = model_spec.NumpyVariable(block.numpy())
            part._quantize(quantization)
            values[start : start + len(block)] = part.weight.numpy()
            scales[start : start + len(block)] = part.weight_scale.numpy()
        return values, scales

    others = spec._quantize

    def quantize(quantization: str | None, variable_filter: Any = None) -> None:
        done: set[str] = set()

        def round_matrix(part: Any, name: str, value: Any) -> None:
            own = name.rpartition("/")[2]
            if isinstance(value, Matrix) and quantization in BY_ROW and hasattr(part, f"{own}_scale"):
                values, scales = rounded(value.rows)
                setattr(part, own, model_spec.NumpyVariable(values))
                setattr(part, f"{own}_scale", model_spec.NumpyVariable(scales))
                done.add(name)

        model_spec.visit_spec(spec, round_matrix)
        others(quantization, lambda name: name not in done)

    model_spec.visit_spec(spec, take)
    # Attributes whose names begin so are no part of what is written; the specification refuses new ones that are set in the usual way.
    object.__setattr__(spec, "_quantize", quantize)
