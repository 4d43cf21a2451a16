"""Where the tensors of a base lie in its safetensors files, for what reads rows of them itself.

Reads the files' headers. What a header says was checked before (serve.engines.checkpoint), or shows when the model is tried (train.word_table).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Number types of safetensors that rows are read in, and their names in torch.
DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


class Tensor(NamedTuple):
    """`dtype` as safetensors spells it; `begin`: where the values begin in the file, in bytes."""

    name: str
    file: Path
    dtype: str
    shape: list[int]
    begin: int


def tensors_of(file: Path) -> Iterator[Tensor]:
    """Raises OSError, ValueError, KeyError and TypeError for a file that is none of safetensors."""
    with file.open("rb") as f:
        length = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(length))
    for name, row in header.items():
        if name != "__metadata__":
            yield Tensor(name, file, row["dtype"], row["shape"], 8 + length + row["data_offsets"][0])
