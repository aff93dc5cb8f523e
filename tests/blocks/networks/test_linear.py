"""Linear layers of frozen networks against torch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from ltbench.blocks.networks.linear import linear


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("shape", [(5, 24), (3, 10, 24), (0, 5, 24)])
def test_is_torchs_up_to_rounding(shape: tuple[int, ...], *, gelu: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(size, generator=generator) for size in (shape, (40, 24), (40,)))
    exact = F.linear(x.double(), weight.double(), bias.double())
    with torch.inference_mode():
        found = linear(x, weight[:32], bias[:32], gelu=gelu)
    assert torch.allclose(found.double(), (F.gelu(exact) if gelu else exact)[..., :32], atol=1e-5)


def test_gradients_pass() -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = torch.eye(3)
    (gradient,) = torch.autograd.grad(linear(x, weight, torch.zeros(3)).sum(), x)
    assert torch.equal(gradient, torch.ones(4, 3))
