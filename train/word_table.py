"""The rows of a base's embedding and output layer, left where they lie in its checkpoint and computed with a few at a time.

Reads a prepared base's safetensors files. Of Gemma 3 270M's weights 63% are its 262,144 words. A training step looks up a few hundred of them and computes
logits for a few thousand; only the looks at the dev split need all. So on a processor they stay in the file: it is mapped, in the dtype it has, and its pages
are the system's to drop.
"""

from __future__ import annotations

import contextlib
import copy
import json
import mmap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tell.model.base import Base, read_config
from tell.model.tensors import DTYPES, tensors_of

# Numbers in one block of rows that is computed with: in float32 2.5 MiB, which a core's cache holds or nearly. Products with such blocks are faster than one
# with all rows in float32 (docs/results/train-speed.md).
BLOCK = 640 * 1024
# Blocks after which the pages that were read are given up.
GIVE_UP = 32


class WordTable:
    """A matrix (words, d) in a mapped file, as far as an output layer needs one: rows by their ids, and all rows block by block, in the dtype `dtype`."""

    def __init__(self, file: Path, begin: int, shape: tuple[int, int], stored: Any, dtype: Any):
        """`begin`: where the rows begin in the file, in bytes; `stored`: their torch dtype there. Raises OSError and ValueError."""
        import torch

        self.dtype, self.device = dtype, torch.device("cpu")
        first = begin - begin % mmap.ALLOCATIONGRANULARITY
        with file.open("rb") as f:
            self._map = mmap.mmap(f.fileno(), begin - first + shape[0] * shape[1] * stored.itemsize, access=mmap.ACCESS_READ, offset=first)
        with warnings.catch_warnings():
            # torch would rather have memory that it may write to.
            warnings.simplefilter("ignore")
            self._rows = torch.frombuffer(self._map, dtype=stored, count=shape[0] * shape[1], offset=begin - first).view(shape)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, words: Any) -> Any:
        """The rows of these ids (n,): (n, d)."""
        rows = self._rows[words].to(self.dtype)
        # Reading a row maps its neighbours too: a few thousand of them are soon most of the file.
        self._give_up()
        return rows

    def blocks(self) -> Iterator[tuple[slice, Any]]:
        """All rows in order: (which, rows). The rows of one block are gone when the next is asked for."""
        size = max(1, BLOCK // self._rows.shape[1])
        converted = None if self._rows.dtype == self.dtype else self._rows.new_empty((min(size, len(self)), self._rows.shape[1]), dtype=self.dtype)
        for number, start in enumerate(range(0, len(self), size)):
            block = self._rows[start : start + size]
            yield slice(start, start + len(block)), block if converted is None else converted[: len(block)].copy_(block)
            if number % GIVE_UP == GIVE_UP - 1:
                self._give_up()
        self._give_up()

    def _give_up(self) -> None:
        """Take the pages that were read off this process; the system keeps them while it has room for them."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def product(self, hidden: Any, bias: Any = None) -> Any:
        """hidden @ rows.T + bias for hidden states (..., d): (..., words)."""
        from torch.nn import functional as F

        product = hidden.new_empty((*hidden.shape[:-1], len(self)))
        for which, block in self.blocks():
            product[..., which] = F.linear(hidden, block, None if bias is None else bias[which])
        return product

    def transposed_product(self, weights: Any) -> Any:
        """weights @ rows for (n, words): (n, d), summed in float32 at least."""
        import torch

        total = torch.zeros((len(weights), self._rows.shape[1]), dtype=torch.promote_types(self.dtype, torch.float32))
        for which, block in self.blocks():
            total += weights[:, which] @ block
        return total


def _shards(base: Base) -> list[Path]:
    """The files that transformers reads the weights from."""
    if (whole := base.path / "model.safetensors").is_file():
        return [whole]
    index = json.loads((base.path / "model.safetensors.index.json").read_bytes())
    return sorted({base.path / name for name in index["weight_map"].values()})


def _matrices(shard: Path, words: int) -> Iterator[tuple[str, int, tuple[int, int], str]]:
    """(name, where it begins, shape, dtype) of each matrix in a safetensors file that has so many rows."""
    for tensor in tensors_of(shard):
        if len(shape := tensor.shape) == 2 and shape[0] == words and tensor.dtype in DTYPES:
            yield tensor.name, tensor.begin, (shape[0], shape[1]), DTYPES[tensor.dtype]


def load_beside_tables(loader: Any, base: Base, attention: str, dtype: Any) -> Any:
    """The base by one of transformers' loaders, in `dtype`, its embedding and output layer as word tables; None where that is not possible.

    Whether it is shows when it is tried: each matrix with a row a word is replaced by one that takes no memory and has its number everywhere. Where the
    numbers are found afterwards, the tables are put; what else the class did with such a matrix is not known, and the base is loaded as ever.
    """
    import torch
    import transformers
    from safetensors import SafetensorError, safe_open

    try:
        config = read_config(base)
        words = (config.get("text_config") or config)["vocab_size"]
        state: dict[str, Any] = {}
        tables: list[WordTable] = []
        for shard in _shards(base):
            weights: Any = safe_open(shard, framework="pt")
            names = weights.keys()
            state |= {name: weights.get_slice(name) for name in names}
            for name, begin, shape, stored in _matrices(shard, words):
                tables.append(WordTable(shard, begin, shape, getattr(torch, stored), dtype))
                state[name] = torch.tensor(float(len(tables)), dtype=dtype).expand(shape)
        if not 0 < len(tables) < 16:
            return None
        read = transformers.AutoConfig.from_pretrained(base.path, trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):
            kind = type(loader.from_config(read))
        model = kind.from_pretrained(None, config=read, state_dict=state, dtype=dtype, attn_implementation=attention, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError):
        # What is wrong with the base is for the usual way to say.
        return None
    # peft looks there for the base's configuration when it saves an adapter.
    model.name_or_path = model.config.name_or_path = str(base.path)
    return model if _put(model, tables) and _works(model, words) else None


def _put(model: Any, tables: list[WordTable]) -> bool:
    """Put each table into the modules whose weight has its number. False where one is in a place that nothing is known of."""
    import torch

    places = {id(p): p for p in model.parameters() if p.dim() == 2 and p.stride() == (0, 0)}
    found: set[int] = set()
    for module in model.modules():
        weight = module._parameters.get("weight")
        if weight is None or id(weight) not in places:
            continue
        table = tables[int(weight[0, 0]) - 1]
        if isinstance(module, torch.nn.Embedding) and module.max_norm is None:
            module.forward = _lookup(module, table)
        elif type(module) is torch.nn.Linear and module is model.get_output_embeddings():
            # Nothing is differentiated through it: the output layer's gradient has a closed form.
            module.forward = lambda hidden, module=module, table=table: table.product(hidden, module.bias)
        else:
            return False
        module.word_table = table
        found.add(id(weight))
    if found != set(places):
        return False
    # Whatever reads the weight itself computes what is no number, which shows.
    for weight in places.values():
        weight.data = torch.tensor(float("nan"), dtype=weight.dtype).expand(weight.shape)
    return True


def _lookup(module: Any, table: WordTable) -> Any:
    """The forward pass of an embedding, by its own class, with only those rows in it that are looked up."""
    import torch

    few = copy.copy(module)
    few._parameters = dict(module._parameters)
    # It stops gradients, of which there are none here.
    few.padding_idx = None

    def forward(ids: Any) -> Any:
        words, places = torch.unique(ids, return_inverse=True)
        return torch.func.functional_call(few, {"weight": table[words]}, (places,))

    return forward


def _works(model: Any, words: int) -> bool:
    import torch

    with contextlib.suppress(RuntimeError, TypeError, ValueError, AttributeError), torch.no_grad():
        return bool(model.eval().get_decoder()(input_ids=torch.tensor([[1, words - 1]]), use_cache=False).last_hidden_state.isfinite().all())
    return False
