"""Random numbers of training: exact probabilities, streams by seed, and no global generator."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltbench.blocks.training.draws import Draws


def test_a_stream_is_its_seeds() -> None:
    def numbers(*seeds: int) -> list[float]:
        draws = Draws(*seeds)
        return [draws.uniform(), *draws.normal((3,)).tolist(), *draws.bernoulli((4,), 0.3).tolist()]

    assert numbers(0, 1) == numbers(0, 1)
    assert numbers(0, 1) != numbers(1, 0)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1), st.integers(0, 10))
def test_bernoulli_has_its_probability(probability: float, seed: int) -> None:
    count = 40_000
    ones = Draws(seed).bernoulli((4, count // 4), probability)
    assert ones.shape == (4, count // 4)
    deviation = (probability * (1 - probability) / count) ** 0.5
    assert abs(ones.float().mean().item() - probability) <= 6 * deviation + 1e-12


def test_bernoulli_looks_beyond_the_first_byte() -> None:
    """With a probability of less than 1/256 the first byte alone would give none, or twice as many."""
    ones = Draws(3).bernoulli((4_000_000,), 1 / 512 + 1 / 2**20).sum().item()
    wanted = 4_000_000 * (1 / 512 + 1 / 2**20)
    assert abs(ones - wanted) < 6 * wanted**0.5


def test_bernoulli_at_the_ends() -> None:
    assert Draws(0).bernoulli((1000,), 0.0).sum() == 0
    assert Draws(0).bernoulli((1000,), 1.0).sum() == 1000


def test_dropout_keeps_the_mean_and_passes_the_gradient_of_what_is_kept() -> None:
    x = torch.ones(100, 1000, requires_grad=True)
    dropped = Draws(1).dropout(x, 0.1)
    assert set(dropped.flatten().tolist()) == {0.0, torch.tensor(1 / 0.9).item()}
    assert abs(dropped.mean().item() - 1) < 0.01
    (gradient,) = torch.autograd.grad(dropped.sum(), x)
    assert torch.equal(gradient, dropped)


def test_no_dropout_draws_nothing() -> None:
    draws, untouched = Draws(5), Draws(5)
    x = torch.ones(3)
    assert draws.dropout(x, 0) is x
    assert draws.uniform() == untouched.uniform()


def test_a_subset_has_different_indices() -> None:
    chosen = Draws(0).subset(10, 10)
    assert sorted(chosen.tolist()) == list(range(10))


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    draws = Draws(0)
    draws.normal((5,))
    draws.dropout(torch.ones(5), 0.5)
    assert torch.equal(before, torch.get_rng_state())
