"""Linear layers of frozen and of trained networks against torch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ltbench.blocks.networks.linear import Linear, linear, trained_linear
from ltbench.blocks.threads import torch_on_one_thread


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


def _given(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize("rows", [(0,), (6,), (2, 5), (1, 4), (2, 3, 5)])
def test_numbers_and_gradients_are_those_of_torchs_linear(rows: tuple[int, ...]) -> None:
    inputs = [_given(*rows, 24).requires_grad_(), _given(16, 24).requires_grad_(), _given(16).requires_grad_()]
    sides = []
    for side in (trained_linear, F.linear):
        found = side(*inputs)
        sides.append([found, *torch.autograd.grad((found * found.detach().cos()).sum(), inputs)])
    for own, torchs in zip(*sides, strict=True):
        torch.testing.assert_close(own, torchs, rtol=1e-5, atol=1e-5)


def test_rows_out_of_order_in_memory_and_a_part_of_the_weights_are_taken_as_they_are() -> None:
    x, weight = _given(5, 3, 24).transpose(0, 1), _given(48, 24).requires_grad_()
    torch.testing.assert_close(trained_linear(x, weight[16:32]), F.linear(x, weight[16:32]), rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(trained_linear(x, weight[16:32]).sum(), weight)
    assert gradient[16:32].any(dim=1).all()
    assert not gradient[:16].any()


def test_a_result_does_not_depend_on_the_number_of_threads() -> None:
    x, layer = _given(2, 257, 96), Linear(96, 384)
    found, usual = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with torch_on_one_thread():
                made = layer(x)
                found.append([made, *torch.autograd.grad(made.square().mean(), list(layer.parameters()))])
    finally:
        torch.set_num_threads(usual)
    assert all(torch.equal(one, other) for side in found[1:] for one, other in zip(found[0], side, strict=True))


def test_half_precision_and_layers_without_values_are_left_to_torch() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert trained_linear(_given(2, 8), _given(4, 8)).dtype == torch.bfloat16
    assert trained_linear(_given(2, 8).to("meta"), _given(4, 8).to("meta")).shape == (2, 4)
    assert trained_linear(_given(2, 8).double(), _given(4, 8).double()).dtype == torch.float64


def test_autocast_and_other_types_are_torchs() -> None:
    """oneDNN's product takes float32 alone; in a training step of bfloat16 a frozen tower is given other numbers."""
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((2, 3, 8), (5, 8), (5,)))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for given in (x, x.bfloat16()):
            found = linear(given, weight, bias, gelu=True)
            assert found.dtype == torch.bfloat16
            wanted = torch.nn.functional.gelu(torch.nn.functional.linear(given, weight, bias))
            assert torch.equal(found, wanted)
    with torch.no_grad():
        whole = linear(x.double(), weight.double(), bias.double())
        assert torch.equal(whole, torch.nn.functional.linear(x.double(), weight.double(), bias.double()))
