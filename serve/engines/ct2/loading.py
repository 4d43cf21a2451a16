"""A base's weights into memory for a conversion: all in float32 but for the largest matrices, embeddings and output layer, of which rows are read when they are needed.

Reads config.json and the safetensors files. Of a small model with a large vocabulary most weights are embeddings, and a conversion needs the rows of its few
sentences, and all of them in turn when they are written.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tell.model.base import Base

# Number types of safetensors that are read here, and their names in torch.
DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
# Values of a matrix that are in memory in float32 at a time.
AT_ONCE = 1 << 23


class _Place(NamedTuple):
    """Where a tensor lies."""

    file: Path
    dtype: str
    shape: list[int]
    offset: int


def _places(folder: Path) -> dict[str, _Place]:
    """Every tensor of a checkpoint by its name. What its header says was checked before (serve.engines.checkpoint)."""
    places = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as f:
            size = int.from_bytes(f.read(8), "little")
            header = json.loads(f.read(size))
        for name, row in header.items():
            if name != "__metadata__":
                places[name] = _Place(file, row["dtype"], row["shape"], 8 + size + row["data_offsets"][0])
    return places


def _read(place: _Place, start: int = 0, count: int | None = None) -> Any:
    """`count` rows of a tensor from `start` on, or all of it, in float32."""
    import torch

    dtype = getattr(torch, DTYPES[place.dtype])
    shape = place.shape if count is None else [count, *place.shape[1:]]
    each, values = dtype.itemsize, 1
    for n in shape:
        values *= n
    block = bytearray(values * each)
    with place.file.open("rb", buffering=0) as f:
        f.seek(place.offset + start * each * (values // count if count else 0))
        view, read = memoryview(block), 0
        while read < len(block):
            if not (n := f.readinto(view[read:])):
                raise OSError(f"{place.file} ends in the middle of a weight")
            read += n
    return torch.frombuffer(block, dtype=dtype).reshape(shape).float()


class Rows:
    """A matrix in a file: `shape` is (rows, columns). `kept` names the rows of the file that count, in order; None for all."""

    def __init__(self, place: _Place, kept: Sequence[int] | None = None):
        self._place, self._kept = place, kept

    @property
    def shape(self) -> list[int]:
        return [len(self._kept) if self._kept is not None else self._place.shape[0], self._place.shape[1]]

    def keep(self, kept: Sequence[int]) -> None:
        """Leave out the rows that are not among these. They go by the numbers of the file, whatever was kept before."""
        self._kept = list(kept)

    def read(self, start: int, stop: int) -> Any:
        """(stop - start, columns) in float32."""
        if self._kept is not None:
            return self._gather(self._kept[start:stop])
        return _read(self._place, start, stop - start)

    def gather(self, ids: Sequence[int]) -> Any:
        """(len(ids), columns) in float32."""
        return self._gather(ids if self._kept is None else [self._kept[i] for i in ids])

    def _gather(self, ids: Sequence[int]) -> Any:
        import torch

        parts, at = [], 0
        while at < len(ids):
            run = 1
            while at + run < len(ids) and ids[at + run] == ids[at] + run:
                run += 1
            parts.append(_read(self._place, ids[at], run))
            at += run
        return torch.cat(parts)

    def blocks(self) -> Iterator[tuple[int, Any]]:
        """(number of the first row, rows), from the first to the last."""
        rows, columns = self.shape
        step = max(1, AT_ONCE // columns)
        for start in range(0, rows, step):
            yield start, self.read(start, min(start + step, rows))


def rows_of(module: Any) -> Rows | None:
    """The rows of an embedding or output layer that are left in the file; None where its weights are in memory."""
    return getattr(module, "left_in_file", None)


def load_model(base: Base) -> Any:
    """The base as a causal language model of transformers in float32, for inference, its embeddings and output layer left in the file where that is possible."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(base.path, local_files_only=True, trust_remote_code=False)
    with _without_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    places = _places(base.path)
    if getattr(config, "quantization_config", None) or not _same_names(model, places):
        # What transformers renames, joins or ties as it reads.
        del model
        return AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32, local_files_only=True, trust_remote_code=False).eval()
    left = [m for m in (model.get_input_embeddings(), model.get_output_embeddings()) if type(m) is torch.nn.Linear or isinstance(m, torch.nn.Embedding)]
    rows: dict[int, Rows] = {}
    for name, parameter in model.named_parameters():
        if any(parameter is m.weight for m in left):
            rows[id(parameter)] = Rows(places[name])
            continue
        path, _, own = name.rpartition(".")
        model.get_submodule(path)._parameters[own] = torch.nn.Parameter(_read(places[name]), requires_grad=False)
    for module in left:
        module.left_in_file = rows[id(module.weight)]
        module.forward = _embeds(module) if isinstance(module, torch.nn.Embedding) else _projects(module)
    return model.eval()


@contextlib.contextmanager
def _without_weights() -> Iterator[None]:
    """Within it, new modules get parameters that hold nothing. What is computed, such as the angles of positions, they get as ever."""
    import torch

    original = torch.nn.Module.register_parameter

    def register(module: Any, name: str, parameter: Any) -> None:
        # One that is there already is tied: it stays the same for both modules.
        if parameter is not None and not parameter.is_meta:
            parameter = torch.nn.Parameter(parameter.data.to("meta"), requires_grad=False)
        original(module, name, parameter)

    torch.nn.Module.register_parameter = register  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = original  # type: ignore[method-assign]


def _same_names(model: Any, places: dict[str, _Place]) -> bool:
    """Whether the files hold exactly what the model has, by the same names."""
    own = {name: list(p.shape) for name, p in model.named_parameters()}
    if any(name not in places or places[name].shape != shape or places[name].dtype not in DTYPES for name, shape in own.items()):
        return False
    # Of two that are tied, the file has the first alone; and what is stored beside parameters is for transformers to read.
    return not any(name in places for name in model.state_dict() if name not in own)


def _embeds(module: Any) -> Any:
    """The module's forward, which reads the rows that it is asked for."""
    import torch

    # A position in the few rows that are there, which it is not.
    module.padding_idx = None

    def forward(ids: Any) -> Any:
        nothing = module._parameters["weight"]
        needed, places = ids.unique(return_inverse=True)
        module._parameters["weight"] = torch.nn.Parameter(module.left_in_file.gather(needed.tolist()), requires_grad=False)
        try:
            return type(module).forward(module, places)
        finally:
            module._parameters["weight"] = nothing

    return forward


def _projects(module: Any) -> Any:
    """The module's forward, which reads its rows one block after the other."""

    def forward(hidden: Any) -> Any:
        rows = module.left_in_file
        output = hidden.new_empty((*hidden.shape[:-1], rows.shape[0]))
        for start, block in rows.blocks():
            output[..., start : start + len(block)] = hidden @ block.T
        return output if module.bias is None else output + module.bias

    return forward
