"""Linear layers of frozen and of trained networks, by oneDNN on a CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def linear(x: Tensor, weight: Tensor, bias: Tensor, *, gelu: bool = False) -> Tensor:
    """Return x @ weight' + bias of tokens (..., width), as `torch.nn.functional.linear` does up to rounding.

    Without gradients oneDNN multiplies float32 matrices on a CPU, where torch takes MKL: that leaves AVX-512 unused on
    processors that are not Intel's, and is half as fast there (`benchmarks/winclip_windows.py`).

    Args:
        x: tokens.
        weight: (outputs, width).
        bias: (outputs,).
        gelu: whether the exact GELU is applied to the result.
    """
    is_plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if torch.is_grad_enabled() or not is_plain or not torch._C._has_mkldnn:
        found = F.linear(x, weight, bias)
        return F.gelu(found) if gelu else found
    behind = "gelu" if gelu else "none"
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, behind, [], "none")
    return product


def trained_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W^T + b, as torch.nn.functional.linear does; by oneDNN on a CPU in float32, gradients included.

    Args:
        x: (..., inputs).
        weight: (outputs, inputs).
        bias: (outputs), or none.

    Returns:
        (..., outputs).
    """
    is_served = x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 0  # oneDNN refuses no rows
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not (is_served and has_onednn) or torch.is_autocast_enabled("cpu"):  # torch asks oneDNN itself in bfloat16
        return F.linear(x, weight, bias)
    found: Tensor = _Linear.apply(x, weight, bias)
    return found


class Linear(nn.Linear):
    """torch.nn.Linear by `trained_linear`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        """Return (..., outputs) of (..., inputs)."""
        return trained_linear(input, self.weight, self.bias)


class _Linear(torch.autograd.Function):
    """`trained_linear` with its gradients. Tensors in oneDNN's own layout would need none, but twice the memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            _product(gradient, weight.T) if of_x else None,
            _product(rows.T, x.flatten(0, -2).T) if of_weight else None,
            rows.sum(dim=0) if of_bias else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found
