"""The processes of one run: one alone, or several that `torchrun` or `accelerate launch` started, on GPUs (nccl) or CPUs (gloo).

Each trains its share of every step's micro-batches with the whole adapter; gradients are summed once a step, so all of them take the same
step. accelerate finds the device and the way to talk; nothing of it is used when there is one process. Rank 0 alone writes and speaks.
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
    """(rank, processes) as the launcher set them; (0, 1) without one. Raises TellmtError when they are no such numbers."""
    raw = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    try:
        rank, count = map(int, raw)
        if not 0 <= rank < count:
            raise ValueError
    except ValueError:
        raise TellmtError("not a rank of a launched group", place="RANK, WORLD_SIZE", found=", ".join(raw), valid="what torchrun sets") from None
    return rank, count


def keep_few_shapes() -> None:
    """To be called before torch is loaded. Products on a processor are prepared for their shape, and two caches keep 1,024 of these each; lengths
    vary from one micro-batch to the next, so they would only ever grow, by 30 to 50 MB for each new length of Gemma 270M. 128 are the shapes of
    two or three micro-batches, which is what the layers of one share.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "128")


class Ranks:
    """This process among those of the run. `add`, `add_all`, `said_by_first` and `close` are meetings: all processes must come."""

    def __init__(self) -> None:
        keep_few_shapes()
        torch = need("torch", "train")
        self.index, self.count = world()
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.shared = False
        if self.count > 1:
            need("accelerate", "train")
            from accelerate import PartialState

            state = PartialState(cpu=self.device == "cpu")
            # "cuda:1" names the one that is this process's; "cpu:0" would say nothing.
            self.device = str(state.device) if state.device.type != "cpu" else "cpu"
            # As `accelerate launch --use_fsdp` asks for it: the frozen base is then spread over the processes.
            self.shared = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"

    @property
    def first(self) -> bool:
        return self.index == 0

    @property
    def cuda(self) -> bool:
        return self.device.startswith("cuda")

    def say(self, message: str) -> None:
        if self.first:
            say(message)

    def threads(self, wanted: int) -> None:
        """The threads that this process computes with on a CPU: `wanted`, or with 0 its part of the machine's cores."""
        if not self.cuda:
            import torch

            here = int(os.environ.get("LOCAL_WORLD_SIZE", self.count))
            torch.set_num_threads(wanted or max(1, cores() // here))

    def add(self, tensor: Any) -> Any:
        """`tensor` summed over the processes, in place."""
        if self.count > 1:
            import torch.distributed as dist

            dist.all_reduce(tensor)
        return tensor

    def add_all(self, tensors: Sequence[Any]) -> None:
        """The same for many at once: they travel as one."""
        if self.count > 1:
            import torch

            flat = self.add(torch.cat([t.reshape(-1) for t in tensors]))
            for part, whole in zip(flat.split([t.numel() for t in tensors]), tensors, strict=True):
                whole.copy_(part.view_as(whole))

    def said_by_first(self, value: Any) -> Any:
        """What rank 0 passed, on every process; it must be picklable."""
        if self.count == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def share(self, costs: Sequence[int], index: int | None = None) -> list[int]:
        """Which of the micro-batches with these costs are this process's (or that of `index`): the dearest first, each to whoever has least so far."""
        index = self.index if index is None else index
        loads = [0] * self.count
        mine = []
        for i in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
            least = loads.index(min(loads))
            loads[least] += costs[i]
            if least == index:
                mine.append(i)
        return sorted(mine)

    def close(self) -> None:
        if self.count > 1:
            import torch.distributed as dist

            if dist.is_initialized():
                dist.destroy_process_group()
