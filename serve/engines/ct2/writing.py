"""Write a model of transformers that is in memory as one of ctranslate2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serve.engines.ct2.corrections import correct_model, correct_spec
from serve.engines.ct2.vocabulary import cut_spec


def write_model(source: Path, model: Any, directory: Path, quantization: str | None, kept: Sequence[int] | None = None) -> None:
    """Write `model`, whose configuration and tokenizer lie in `source`, to `directory`. The model is used up: its layers are taken out of it.
    `kept`: the ids of the vocabulary that are written, ascending; None for all.

    Raises what ctranslate2 does: ValueError for a class that it does not know, and in one that it knows in another form whatever is missing there.
    """
    from ctranslate2.converters import TransformersConverter

    class Loaded(TransformersConverter):  # type: ignore[misc]
        """Converts a model that is in memory, where the original reads one from disk."""

        def load_model(self, model_class: Any, path: str, **options: Any) -> Any:
            return model

        def _load(self) -> Any:
            spec = super()._load()
            correct_spec(spec, model)
            if kept is not None:
                cut_spec(spec, kept)
            return spec

    correct_model(model)
    Loaded(str(source)).convert(str(directory), quantization=quantization, force=True)
