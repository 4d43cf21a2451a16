"""AdamW on float32 master weights of the LoRA, which the model holds in its compute dtype.

bfloat16 keeps 8 bits of mantissa: an update smaller than 1/256 of a weight would be rounded away if it were applied directly.
"""

from __future__ import annotations

from typing import Any

from train.config import TrainOptions


class MasterWeights:
    """The float32 weights, their gradients and AdamW's moments; the model's own tensors (`params`) are updated after each step."""

    def __init__(self, params: dict[str, Any], options: TrainOptions):
        import torch

        self.params = params
        # What the model holds in float32 is its own master: a copy would take as much again, and its gradient too.
        self.masters = {n: p if p.dtype == torch.float32 else p.detach().float().clone() for n, p in params.items()}
        for m in self.masters.values():
            m.grad = torch.zeros_like(m)
        self.adamw = torch.optim.AdamW(
            list(self.masters.values()), lr=options.learning_rate, betas=(0.9, 0.99), eps=1e-8, weight_decay=options.weight_decay, fused=True
        )

    def add_gradients(self) -> None:
        """Add the model's gradients to those of the master weights, and clear the model's."""
        for n, p in self.params.items():
            if p is not self.masters[n] and p.grad is not None:
                self.masters[n].grad.add_(p.grad)
                p.grad = None

    def step(self, rate: float, max_norm: float) -> float:
        """One AdamW step at this learning rate. Returns the gradient norm before clipping; a non-finite one changes nothing."""
        import torch

        norm = float(torch.nn.utils.clip_grad_norm_(list(self.masters.values()), max_norm))
        if norm == norm and norm != float("inf"):
            for group in self.adamw.param_groups:
                group["lr"] = rate
            self.adamw.step()
            self.update_model()
        self.clear_gradients()
        return norm

    def clear_gradients(self) -> float:
        """Clear the gradients, those on the model too. Returns NaN, the norm of no gradient."""
        for n, m in self.masters.items():
            if self.params[n] is not m:
                self.params[n].grad = None
            m.grad.zero_()
        return float("nan")

    def update_model(self) -> None:
        """Round the master weights into the model's own tensors."""
        for n, p in self.params.items():
            if p is not self.masters[n]:
                p.data.copy_(self.masters[n])

    def tensors(self) -> dict[str, Any]:
        """The tensors of a checkpoint: master weights and both moments, by name."""
        tensors = {}
        for n, m in self.masters.items():
            tensors[f"master:{n}"] = m.detach()
            for key in ("exp_avg", "exp_avg_sq"):
                if m in self.adamw.state:
                    tensors[f"{key}:{n}"] = self.adamw.state[m][key]
        return tensors

    def restore(self, tensors: dict[str, Any], steps: int) -> None:
        import torch

        for name, master in self.masters.items():
            master.data.copy_(tensors[f"master:{name}"])
            state = {"step": torch.tensor(float(steps), device=master.device)}
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = tensors[f"{key}:{name}"].to(master.device).clone()
            self.adamw.state[master] = state
        self.update_model()
