"""The VAE: shapes and sizes of its decoders, its divergence, and what it is given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ltbench.blocks.training.draws import Draws
from ltbench.blocks.vision_language import Stage, load_vision_language
from ltbench.method import Runtime
from methods.ltad.decoders import InvertedResidual, LightDecoder, MirrorDecoder, Shape
from methods.ltad.synthesis import Posterior, Synthesiser, synthesis_loss

ALIGN_SHAPES = [Shape(32, 112, 112), Shape(48, 56, 56), Shape(80, 28, 28), Shape(224, 14, 14)]
ALIGN_STAGES = [
    Stage(32, 4, 3, 1),
    Stage(48, 7, 3, 2),
    Stage(80, 7, 5, 2),
    Stage(160, 10, 3, 2),
    Stage(224, 10, 5, 1),
    Stage(384, 13, 5, 2),
    Stage(640, 4, 3, 1),
]
SMALL = [Shape(8, 32, 24), Shape(8, 16, 12), Shape(16, 5, 3)]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_stages_of_align_are_what_transformers_builds() -> None:
    """The small one by its modules; the paper's by the figures of the specification."""
    model = load_vision_language("tiny", (0, 1, 2, 4), runtime=Runtime())
    assert [stage.channels for stage in model.stages] == [8, 8, 8, 16, 16, 24, 32]
    assert [stage.repeats for stage in model.stages] == [1, 1, 1, 1, 1, 2, 1]
    assert [stage.stride for stage in model.stages] == [1, 2, 2, 2, 1, 2, 1]
    assert model.layer_stages == (0, 1, 2, 4)
    assert sum(stage.repeats for stage in ALIGN_STAGES) == 55


@pytest.mark.parametrize("width", [16, 64])
def test_the_light_decoder_makes_every_map(width: int) -> None:
    made = LightDecoder(10, SMALL, width=width, blocks=1)(torch.randn(2, 10))
    assert [tuple(level.shape[1:]) for level in made] == [tuple(shape) for shape in SMALL]


def test_the_mirror_makes_every_map() -> None:
    stages = [Stage(8, 1, 3, 1), Stage(8, 2, 5, 2), Stage(16, 1, 3, 2), Stage(24, 1, 3, 2), Stage(32, 2, 3, 1)]
    mirror = MirrorDecoder(10, stages, (0, 1, 2), [Shape(8, 32, 24), Shape(8, 16, 12), Shape(16, 8, 6)])
    assert mirror.sizes == [(4, 3), (4, 3), (8, 6), (16, 12), (32, 24)]
    made = mirror(torch.randn(2, 10))
    assert [tuple(level.shape[1:]) for level in made] == [(8, 32, 24), (8, 16, 12), (16, 8, 6)]
    blocks = [sum(isinstance(block, InvertedResidual) for block in stage.modules()) for stage in mirror.stages]
    assert blocks == [2, 1, 1, 2, 1]


@pytest.mark.slow
def test_the_mirror_of_align_is_as_large_as_align() -> None:
    mirror = MirrorDecoder(1280, ALIGN_STAGES, (0, 1, 2, 4), ALIGN_SHAPES)
    assert mirror.sizes == [(7, 7), (7, 7), (14, 14), (14, 14), (28, 28), (56, 56), (112, 112)]
    assert 50e6 < count(mirror) < 75e6
    with torch.inference_mode():
        assert [tuple(level.shape[1:]) for level in mirror(torch.randn(1, 1280))] == [tuple(s) for s in ALIGN_SHAPES]


def test_linear_maps_of_the_code() -> None:
    synthesiser = Synthesiser(640, 640, nn.Identity())
    assert count(synthesiser) == 2 * 410_240


class TestDivergence:
    def test_it_is_nought_of_the_standard_normal_alone(self) -> None:
        zeros = torch.zeros(3, 5)
        assert torch.equal(Posterior(zeros, zeros).divergence(), torch.zeros(3))

    @pytest.mark.parametrize("seed", range(5))
    def test_it_is_that_of_torch_a_value(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        mean, log_variance = (torch.randn(4, 6, generator=generator) for _ in range(2))
        ours = Posterior(mean, log_variance).divergence()
        gaussians = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
        theirs = torch.distributions.kl_divergence(gaussians, torch.distributions.Normal(0.0, 1.0))
        torch.testing.assert_close(ours, theirs.mean(dim=1))
        assert (ours > 0).all()

    def test_samples_have_mean_and_deviation(self) -> None:
        mean, log_variance = torch.full((1, 200_000), 3.0), torch.full((1, 200_000), 2 * 0.5**2)
        drawn = Posterior(mean, log_variance).sample(Draws(0))
        assert float(drawn.mean()) == pytest.approx(3, abs=0.02)
        assert float(drawn.std()) == pytest.approx(float(torch.tensor(0.25).exp()), abs=0.02)


def test_a_loss_has_a_floor() -> None:
    maps = [torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)]
    assert synthesis_loss(maps, maps, torch.zeros(2), 1.0) == 0
    assert synthesis_loss(maps, [level + 1 for level in maps], torch.zeros(2), 1.0) == pytest.approx(1, abs=1e-5)
    assert synthesis_loss(maps, maps, torch.tensor([1.0, 3.0]), 0.5) == 1


class Echo(nn.Module):
    """A decoder that gives back what it is given."""

    def forward(self, vectors: torch.Tensor) -> list[torch.Tensor]:
        return [vectors]


def test_a_vae_draws_and_an_autoencoder_does_not() -> None:
    codes, texts = torch.randn(2, 6), torch.randn(2, 3)
    vae, plain = (Synthesiser(6, 4, Echo(), variational=variational) for variational in (True, False))
    assert not torch.equal(vae(codes, texts, Draws(0))[0][0], vae(codes, texts, Draws(1))[0][0])
    assert torch.equal(vae(codes, texts, Draws(0))[0][0], vae(codes, texts, Draws(0))[0][0])
    (made,), divergence = plain(codes, texts, Draws(0))
    assert torch.equal(divergence, torch.zeros(2))
    assert torch.equal(made[:, :4], plain.mean(codes))
    assert torch.equal(made[:, 4:], texts)


def test_without_conditioning_the_text_is_not_seen() -> None:
    synthesiser = Synthesiser(6, 4, Echo(), conditioned=False)
    (made,), _ = synthesiser(torch.randn(2, 6), torch.randn(2, 3), Draws(0))
    assert made.shape == (2, 4)
