"""StableAdamW beside torch's AdamW and a plain transcription of its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ltbench.blocks.training.learner import Learner
from ltbench.blocks.training.stable_adamw import StableAdamW

LR, DECAY, EPS, BETAS = 2e-3, 1e-2, 1e-10, (0.9, 0.999)


def _start() -> nn.Parameter:
    return nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))


def _gradients(count: int, growth: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 4, generator=generator) * growth**number for number in range(count)]


def _run(optimiser: torch.optim.Optimizer, parameter: Tensor, gradients: list[Tensor]) -> Tensor:
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimiser.step()
    return parameter.detach()


def _plain(gradients: list[Tensor], clips: bool) -> tuple[Tensor, list[float]]:
    """Return the parameter after the steps, and r of each, in float64."""
    p, m, v, largest = (_start().detach().double(), *(torch.zeros(3, 4, dtype=torch.float64) for _ in range(3)))
    ratios = []
    for step, gradient in enumerate((gradient.double() for gradient in gradients), start=1):
        p = p * (1 - LR * DECAY)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        largest = torch.maximum(largest, v)
        root = largest.sqrt() / np.sqrt(1 - 0.999**step) + EPS
        ratios.append((gradient / root).square().mean().sqrt().item())
        p = p - LR / (1 - 0.9**step) / (max(1.0, ratios[-1]) if clips else 1.0) * m / root
    return p, ratios


def test_shrinking_gradients_make_it_adamw_with_amsgrad() -> None:
    gradients = _gradients(6, 0.5)
    _, ratios = _plain(gradients, clips=True)
    assert max(ratios) <= 1 + 1e-6
    own, theirs = _start(), _start()
    found = _run(StableAdamW([own], LR, BETAS, EPS, DECAY), own, gradients)
    adamw = torch.optim.AdamW([theirs], LR, BETAS, EPS, DECAY, amsgrad=True)
    assert torch.allclose(found, _run(adamw, theirs, gradients), atol=1e-6)


def test_growing_gradients_make_the_step_smaller_by_their_ratio() -> None:
    gradients = _gradients(4, 3.0)
    wanted, ratios = _plain(gradients, clips=True)
    assert min(ratios[1:]) > 1.2
    parameter = _start()
    assert torch.allclose(_run(StableAdamW([parameter], LR, BETAS, EPS, DECAY), parameter, gradients).double(), wanted)
    before = _plain(gradients[:3], clips=True)[0] * (1 - LR * DECAY)
    with_all, _ = _plain(gradients, clips=True)
    unclipped = _last_unclipped(gradients)
    assert torch.allclose((before - with_all) * ratios[-1], before - unclipped, atol=1e-6)


def _last_unclipped(gradients: list[Tensor]) -> Tensor:
    """Return the parameter after steps of which the last is not shortened, by torch's AdamW from the state before."""
    own, theirs = _start(), _start()
    optimiser = StableAdamW([own], LR, BETAS, EPS, DECAY)
    _run(optimiser, own, gradients[:-1])
    adamw = torch.optim.AdamW([theirs], LR, BETAS, EPS, DECAY, amsgrad=True)
    _run(adamw, theirs, gradients[:-1])
    with torch.no_grad():
        theirs.copy_(own)
    return _run(adamw, theirs, gradients[-1:]).double()


def test_its_state_goes_through_a_checkpoint() -> None:
    gradients = _gradients(5, 1.5)
    layers = [nn.Linear(4, 3, bias=False) for _ in range(2)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.copy_(_start())
    whole, part = (
        Learner("x", layer, lambda shard: torch.zeros(()), StableAdamW(layer.parameters(), LR)) for layer in layers
    )
    _run(whole.optimiser, layers[0].weight, gradients)
    _run(part.optimiser, layers[1].weight, gradients[:2])
    stored = {name: tensor.clone() for name, tensor in part.tensors().items()}
    assert set(stored) == {"x/network/weight", *(f"x/optimiser/0/{n}" for n in ("step", "mean", "square", "largest"))}
    fresh = nn.Linear(4, 3, bias=False)
    resumed = Learner("x", fresh, lambda shard: torch.zeros(()), StableAdamW(fresh.parameters(), LR))
    resumed.load(stored)
    _run(resumed.optimiser, fresh.weight, gradients[2:])
    assert torch.equal(fresh.weight, layers[0].weight)


def test_parameters_without_a_gradient_and_closures() -> None:
    parameter = _start()
    optimiser = StableAdamW([parameter], LR)
    optimiser.step()
    assert torch.equal(parameter, _start())
    with pytest.raises(ValueError, match="no closure"):
        optimiser.step(lambda: 0.0)
