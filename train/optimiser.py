"""AdamW on float32 masters of the LoRA weights, which the model holds in its compute dtype.

bfloat16 keeps 8 bits of mantissa: an update smaller than 1/256 of a weight would be rounded away if applied to it directly.
"""

from __future__ import annotations

from typing import Any

from train.config import TrainOptions


class Masters:
    """The float32 weights, their gradients and AdamW's moments; `model_params` follow after each step."""

    def __init__(self, params: dict[str, Any], options: TrainOptions):
        import torch

        self.params = params
        self.masters = {n: p.detach().float().clone() for n, p in params.items()}
        for m in self.masters.values():
            m.grad = torch.zeros_like(m)
        self.adamw = torch.optim.AdamW(
            list(self.masters.values()), lr=options.learning_rate, betas=(0.9, 0.99), eps=1e-8, weight_decay=options.weight_decay, fused=True
        )

    def collect(self) -> None:
        """Add the model's gradients to the masters' and clear them."""
        for n, p in self.params.items():
            if p.grad is not None:
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
            self.publish()
        self.drop()
        return norm

    def drop(self) -> float:
        """Forget the gradients, those still on the model too. Returns NaN, the norm of nothing."""
        for n, m in self.masters.items():
            m.grad.zero_()
            self.params[n].grad = None
        return float("nan")

    def publish(self) -> None:
        """Round the masters into the model's own tensors."""
        for n, p in self.params.items():
            p.data.copy_(self.masters[n])

    def tensors(self) -> dict[str, Any]:
        """Everything a checkpoint must hold: masters and both moments, by name."""
        out = {}
        for n, m in self.masters.items():
            out[f"master:{n}"] = m
            for key in ("exp_avg", "exp_avg_sq"):
                if m in self.adamw.state:
                    out[f"{key}:{n}"] = self.adamw.state[m][key]
        return out

    def restore(self, tensors: dict[str, Any], steps: int) -> None:
        import torch

        for n, m in self.masters.items():
            m.copy_(tensors[f"master:{n}"])
            state = {"step": torch.tensor(float(steps), device=m.device)}
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = tensors[f"{key}:{n}"].to(m.device).clone()
            self.adamw.state[m] = state
        self.publish()
