"""StableAdamW (Wortsman et al., 2023, arXiv:2304.13013) with AMSGrad, as Dinomaly trains with it.

No library that we know of has both: those with StableAdamW have no AMSGrad.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class StableAdamW(torch.optim.Optimizer):
    """AdamW with AMSGrad whose steps shrink where the gradient is large beside its own past.

    In step t, for each tensor p with gradient g: p is multiplied by 1 - lr x decay; m and v are the usual moments; w
    is the largest v so far, value by value; d = sqrt(w) / sqrt(1 - b2^t) + eps; r is the root of the mean of (g / d)^2
    over the tensor; p loses lr / (1 - b1^t) / max(1, r) x m / d.

    Args:
        parameters: what to step.
        lr: learning rate.
        betas: decay of the first and the second moment.
        eps: added to the root.
        weight_decay: decoupled, taken before the step.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-10,
        weight_decay: float = 1e-4,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Step all parameters that have a gradient.

        Args:
            closure: not supported.

        Raises:
            ValueError: a closure.
        """
        if closure is not None:
            raise ValueError("Expected no closure, got one. Compute the gradients before the step.")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group)

    def _step(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            for name in ("mean", "square", "largest"):
                state[name] = torch.zeros_like(parameter)
        state["step"] += 1
        step, (first, second) = state["step"].item(), group["betas"]
        mean, square, largest = state["mean"], state["square"], state["largest"]
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        torch.maximum(largest, square, out=largest)
        root = largest.sqrt().div_(math.sqrt(1 - second**step)).add_(group["eps"])
        excess = max(1.0, (gradient / root).square().mean().sqrt().item())
        parameter.addcdiv_(mean, root, value=-group["lr"] / (1 - first**step) / excess)
