"""The processes of one run: one alone, or several that `torchrun` or `accelerate launch` started, on GPUs (nccl) or CPUs (gloo).

Each process trains its share of every step's micro-batches with the whole adapter. Gradients are summed once a step, so all processes take the
same step. accelerate chooses the device and the backend; a single process does not use it. Only rank 0 writes files and prints.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from tell.console import say
from tell.errors import TellmtError
from tell.extras import need
from tell.machine import cores


def world() -> tuple[int, int]:
    """(rank, processes) as the launcher set them; (0, 1) without a launcher. Raises TellmtError when the variables are not such numbers."""
    raw = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    try:
        rank, count = map(int, raw)
        if not 0 <= rank < count:
            raise ValueError
    except ValueError:
        raise TellmtError("not a rank of a launched group", place="RANK, WORLD_SIZE", found=", ".join(raw), valid="what torchrun sets") from None
    return rank, count


def keep_few_shapes() -> None:
    """Bound the caches of matrix products on a processor. Call this before torch is loaded.

    A product is prepared for its shape, and two caches keep 1,024 shapes each. Lengths vary from one micro-batch to the next, so the caches would
    only grow, by 30 to 50 MB for each new length of Gemma 270M. 128 are the shapes of two or three micro-batches, which the layers share.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "128")


class ProcessGroup:
    """This process among those of the run. `all_reduce`, `all_reduce_many`, `broadcast` and `close` are collective: all processes must call them."""

    def __init__(self) -> None:
        keep_few_shapes()
        torch = need("torch", "train")
        self.index, self.count = world()
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.sharded = False
        if self.count > 1:
            need("accelerate", "train")
            from accelerate import PartialState

            state = PartialState(cpu=self.device == "cpu")
            # "cuda:1" names this process's GPU; "cpu:0" would say nothing.
            self.device = str(state.device) if state.device.type != "cpu" else "cpu"
            # Set by `accelerate launch --use_fsdp`: the frozen base is then sharded over the processes.
            self.sharded = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"

    @property
    def first(self) -> bool:
        return self.index == 0

    @property
    def cuda(self) -> bool:
        return self.device.startswith("cuda")

    def say(self, message: str) -> None:
        if self.first:
            say(message)

    def threads(self, count: int) -> None:
        """Set the threads that this process computes with on a CPU: `count`, or with 0 its share of the machine's cores."""
        if not self.cuda:
            import torch

            local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", self.count))
            torch.set_num_threads(count or max(1, cores() // local_processes))

    def all_reduce(self, tensor: Any) -> Any:
        """`tensor` summed over the processes, in place."""
        if self.count > 1:
            import torch.distributed as dist

            dist.all_reduce(tensor)
        return tensor

    def all_reduce_many(self, tensors: Sequence[Any]) -> None:
        """`all_reduce` of many tensors as one message."""
        if self.count > 1:
            import torch

            flat = self.all_reduce(torch.cat([t.reshape(-1) for t in tensors]))
            for part, whole in zip(flat.split([t.numel() for t in tensors]), tensors, strict=True):
                whole.copy_(part.view_as(whole))

    def broadcast(self, value: Any) -> Any:
        """The value that rank 0 passed, on every process; it must be picklable."""
        if self.count == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def assigned(self, costs: Sequence[int], index: int | None = None) -> list[int]:
        """The indices of the micro-batches that this process (or process `index`) computes. The costliest is assigned first, each to the process with the
        lowest cost so far."""
        index = self.index if index is None else index
        loads = [0] * self.count
        indices = []
        for i in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
            least = loads.index(min(loads))
            loads[least] += costs[i]
            if least == index:
                indices.append(i)
        return sorted(indices)

    def close(self) -> None:
        if self.count > 1:
            import torch.distributed as dist

            if dist.is_initialized():
                dist.destroy_process_group()
