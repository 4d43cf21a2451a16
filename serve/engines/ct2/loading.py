"""A base's weights into memory for a conversion: all in float32 but for the largest matrices, embeddings and output layer, whose rows are read as needed.

Reads config.json and the safetensors files. Of a small model with a large vocabulary most weights are embeddings, and a conversion needs the rows of its few
sentences, and all of them in turn when they are written.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

from tell.model.base import Base
from tell.model.tensors import DTYPES, Tensor, tensors_of

# Values of a matrix that are in memory in float32 at a time: they stay in a processor's cache while they are multiplied with.
AT_ONCE = 1 << 20
# Rows of a file that lie at most so far apart are read at once.
NEAR = 64


def _read(place: Tensor, start: int = 0, count: int | None = None) -> Any:
    """`count` rows of a tensor from `start` on, or all of it, in the file's own type."""
    import torch

    dtype = getattr(torch, DTYPES[place.dtype])
    shape = place.shape if count is None else [count, *place.shape[1:]]
    row = math.prod(shape[1:]) * dtype.itemsize
    block = bytearray(math.prod(shape) * dtype.itemsize)
    with place.file.open("rb", buffering=0) as f:
        f.seek(place.begin + start * row)
        view, read = memoryview(block), 0
        while read < len(block):
            if not (n := f.readinto(view[read:])):
                raise OSError(f"{place.file} ends in the middle of a weight")
            read += n
    return torch.frombuffer(block, dtype=dtype).reshape(shape)


class Rows:
    """A matrix in a file: `shape` is (rows, columns). With `kept`, ascending, it has these rows alone, and holds them in memory in the file's type."""

    def __init__(self, place: Tensor, kept: Sequence[int] | None = None):
        self._place, self._kept = place, kept
        self._held: Any = None if kept is None else self._gather(kept)
        self._part: Rows | None = None

    @property
    def shape(self) -> list[int]:
        return list(self._place.shape if self._held is None else self._held.shape)

    def keep(self, kept: Sequence[int]) -> Rows:
        """The rows of these numbers, ascending, of a matrix that has all. Asked for again, they are the same object."""
        if self._part is None or list(self._part._kept or ()) != list(kept):
            self._part = Rows(self._place, kept)
        return self._part

    def gather(self, ids: Sequence[int]) -> Any:
        """(len(ids), columns) in float32, for ascending `ids`."""
        return (self._gather(ids) if self._held is None else self._held[list(ids)]).float()

    def _gather(self, ids: Sequence[int]) -> Any:
        import torch

        step, parts, at = max(1, AT_ONCE // self._place.shape[1]), [], 0
        while at < len(ids):
            end = at + 1
            # What lies between near rows is read with them.
            while end < len(ids) and ids[end] - ids[end - 1] <= NEAR and ids[end] - ids[at] < step:
                end += 1
            block = _read(self._place, ids[at], ids[end - 1] - ids[at] + 1)
            parts.append(block[[i - ids[at] for i in ids[at:end]]])
            at = end
        return torch.cat(parts)

    def blocks(self) -> Iterator[tuple[int, Any]]:
        """(number of the first row, rows in float32), from the first to the last."""
        rows, columns = self.shape
        step = max(1, AT_ONCE // columns)
        for start in range(0, rows, step):
            count = min(step, rows - start)
            yield start, (_read(self._place, start, count) if self._held is None else self._held[start : start + count]).float()


def rows_of(module: Any) -> Rows | None:
    """The rows of an embedding or output layer that are left in the file; None where its weights are in memory."""
    return getattr(module, "left_in_file", None)


def log_probs(logits: Any, kept: Sequence[int] | None) -> Any:
    """Log-probabilities of the words that are kept, (n, kept), of logits (n, words) of a model that was loaded with or without `kept`."""
    logits = logits.float()
    if kept is not None and logits.shape[-1] != len(kept):
        logits = logits[..., list(kept)]
    return logits.log_softmax(-1)


def load_model(base: Base, kept: Sequence[int] | None = None) -> Any:
    """The base as a causal language model of transformers in float32, for inference, its embeddings and output layer left in the file where that is possible.
    There it computes the logits of the ids that are `kept` alone, ascending; otherwise, and with None, those of all."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(base.path, local_files_only=True, trust_remote_code=False)
    with _without_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    places = {tensor.name: tensor for file in sorted(base.path.glob("*.safetensors")) for tensor in tensors_of(file)}
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
        model.get_submodule(path)._parameters[own] = torch.nn.Parameter(_read(places[name]).float(), requires_grad=False)
    for module in left:
        module.left_in_file = rows[id(module.weight)]
        module.forward = _embeds(module) if isinstance(module, torch.nn.Embedding) else _projects(module, kept)
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

    torch.nn.Module.register_parameter = register
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = original


def _same_names(model: Any, places: dict[str, Tensor]) -> bool:
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


def _projects(module: Any, kept: Sequence[int] | None) -> Any:
    """The module's forward, which reads its rows one block after the other."""
    rows = module.left_in_file if kept is None else module.left_in_file.keep(kept)
    bias = None if module.bias is None else module.bias if kept is None else module.bias[list(kept)]

    def forward(hidden: Any) -> Any:
        output = hidden.new_empty((*hidden.shape[:-1], rows.shape[0]))
        for start, block in rows.blocks():
            output[..., start : start + len(block)] = hidden @ block.T
        return output if bias is None else output + bias

    return forward
