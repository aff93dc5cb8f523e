"""Linear layers of frozen networks, by oneDNN on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


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
    if torch.is_grad_enabled() or x.device.type != "cpu" or not torch._C._has_mkldnn:
        found = F.linear(x, weight, bias)
        return F.gelu(found) if gelu else found
    behind = "gelu" if gelu else "none"
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, behind, [], "none")
    return product
