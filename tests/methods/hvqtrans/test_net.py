"""The network and its codebooks: sizes, updates by hand, gradients, switching, scores."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from methods.hvqtrans.codebooks import EPSILON, Codebooks, clustered, rounds
from methods.hvqtrans.method import HVQTrans
from methods.hvqtrans.net import HVQNetwork, NetworkSettings
from methods.hvqtrans.start import start_from_tokens

SMALL = NetworkSettings(width=8, depth=2, heads=2, ffn_width=16, dropout=0.0, codes=12)
GRID, CHANNELS = (3, 4), 6


def _network(seed: int = 0, categories: int = 3, settings: NetworkSettings = SMALL) -> HVQNetwork:
    return HVQNetwork(CHANNELS, GRID, categories, settings, seed)


def _tokens(count: int, seed: int = 1, channels: int = CHANNELS) -> Tensor:
    return torch.randn(count, GRID[0] * GRID[1], channels, generator=torch.Generator().manual_seed(seed))


def _books(codes: int = 5, width: int = 4, decay: float = 0.99, categories: int = 2) -> Codebooks:
    return Codebooks(1, categories, codes, width, decay, torch.Generator().manual_seed(0))


def test_parameters_of_the_paper() -> None:
    method = HVQTrans()
    assert method.trainable_parameters((224, 224)) == 18_014_192
    method.categories_ = tuple("abcdefghijkl")
    assert method.trainable_parameters((224, 224)) == 17_595_584, "VisA's 12 categories"
    assert HVQTrans(categories="one").trainable_parameters((224, 224)) == 16_060_688


def test_parameters_and_codes_by_part() -> None:
    network = HVQNetwork(272, (14, 14), 2, NetworkSettings(), seed=0)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert counts["encoder"] == 4 * 789_760
    assert counts["decoder"] == 4 * 3_154_432
    assert (counts["input"], counts["unused"], counts["heads"]) == (69_888, 69_888, 2 * 139_536)
    assert (counts["norm"], counts["position"], counts["top"], counts["lower"]) == (1_024, 3_584, 0, 0)
    assert network.top.codes.numel() + network.lower.codes.numel() == 2 * 1_179_648
    assert sum(buffer.numel() for buffer in network.buffers()) == 2 * 2_361_856


def test_layers_start_from_equal_weights() -> None:
    network = _network()
    for layers in (network.encoder, network.decoder):
        first, second = (layer.state_dict() for layer in layers)
        assert all(torch.equal(first[name], second[name]) for name in first)
    heads = [head.state_dict()["weight"] for head in network.heads]
    assert not torch.equal(heads[0], heads[1])


def test_shapes() -> None:
    network = _network()
    levels = network.encode(_tokens(2))
    assert levels.shape == (3, 2, 12, 8)
    quantised = network.quantise(levels, [0, 2])
    assert [memory.shape for memory in quantised.memories] == [(2, 12, 16)] * 2
    assert network(_tokens(2), [0, 2])[0].shape == (2, 12, CHANNELS)


def test_quantising_gives_codes_and_is_idempotent() -> None:
    books = _books()
    before = {name: buffer.clone() for name, buffer in books.named_buffers()}
    tokens = _tokens(1, channels=4)[None]
    indices = books.nearest(tokens, [1])
    found = books.look_up(indices, [1])
    distances = torch.cdist(tokens[0, 0], books.codes[0, 1])
    assert torch.equal(indices[0, 0], distances.argmin(dim=1))
    assert torch.equal(found[0, 0], books.codes[0, 1][indices[0, 0]])
    assert torch.equal(books.nearest(found, [1]), indices)
    every = books.codes[:, [0]]
    assert torch.equal(books.look_up(books.nearest(every, [0]), [0]), every)
    assert all(torch.equal(before[name], buffer) for name, buffer in books.named_buffers())


def test_an_update_by_hand() -> None:
    books, tokens = _books(codes=1, width=2), torch.tensor([[1.0, 2.0], [3.0, -4.0], [5.0, 5.0]])[None, None]
    start = books.codes[0, 0, 0].clone()
    books.follow(tokens, torch.zeros(1, 1, 3, dtype=torch.int64), [0])
    assert books.counts[0, 0].item() == pytest.approx(0.03)
    sums = 0.99 * start + 0.01 * torch.tensor([9.0, 3.0])
    assert torch.allclose(books.sums[0, 0, 0], sums)
    assert torch.allclose(books.codes[0, 0, 0], sums / 0.03, rtol=1e-5)
    assert books.counts[0, 1].item() == 0, "the other category's codebook stays"


def test_counts_and_unused_codes_after_updates() -> None:
    """Counts add up to 196 (1 - .99^t); a code without tokens is blown up 99,258 times by the first update."""
    books = _books(codes=512, width=3, categories=1)
    before = books.codes[0, 0, 511].norm().item()
    tokens = torch.randn(1, 1, 196, 3, generator=torch.Generator().manual_seed(0))
    indices = torch.arange(196)[None, None] % 40
    for update in range(1, 6):
        books.follow(tokens, indices, [0])
        assert books.counts.sum().item() == pytest.approx(196 * (1 - 0.99**update), rel=1e-4)
        if update == 1:
            ratio = books.codes[0, 0, 511].norm().item() / before
            assert ratio == pytest.approx(0.99 / (EPSILON / (1.96 + 512 * EPSILON) * 1.96), rel=1e-3)
            assert ratio == pytest.approx(99_258, rel=1e-3)


def test_images_of_a_category_follow_one_another() -> None:
    """Rounds give what one image after the other gives; the second image of a category meets what the first left."""
    assert rounds([2, 0, 2, 2, 0, 1]) == [[0, 1, 5], [2, 4], [3]]
    tokens, labels = _tokens(4), [1, 0, 1, 2]
    together, alone = _network(), _network()
    with torch.no_grad():
        levels = together.encode(tokens)
        found = together.quantise(levels, labels, nullcontext())
        parts = [alone.quantise(levels[:, [i]], [label], nullcontext()) for i, label in enumerate(labels)]
        untouched = _network().quantise(levels, labels)
    for place in range(2):
        expected = torch.cat([part.memories[place] for part in parts])
        assert torch.allclose(found.memories[place], expected, atol=1e-5)
        assert torch.equal(found.memories[place][:2], untouched.memories[place][:2]), "the first of their category"
        assert not torch.equal(found.memories[place][2], untouched.memories[place][2])
    assert found.latent.item() == pytest.approx(sum(part.latent.item() for part in parts) / 4, rel=1e-5)
    own, others = dict(together.named_buffers()), dict(alone.named_buffers())
    assert all(torch.allclose(own[name], others[name], rtol=1e-5) for name in own)


def test_gradients_pass_straight_through() -> None:
    """Each memory moves with the tokens that it stands for as if they were not quantised; codes have no gradient."""
    network, levels = _network(), _network().encode(_tokens(1)).detach().requires_grad_()
    quantised = network.quantise(levels, [0])
    (gradient,) = torch.autograd.grad(torch.stack(quantised.memories).sum(), levels)
    assert torch.equal(gradient[:-1], torch.ones_like(gradient[:-1]))
    assert torch.equal(gradient[-1], torch.full_like(gradient[-1], 2)), "it is a half of both memories"
    assert not any(buffer.requires_grad for buffer in network.buffers())


def test_the_latent_loss_is_a_sum_of_the_levels() -> None:
    network = _network()
    levels = network.encode(_tokens(2)).detach()
    quantised = network.quantise(levels, [0, 1])
    deepest, lowest_two = quantised.memories[0][..., 8:], quantised.memories[::-1]
    terms = [(deepest - levels[-1]).square().mean()]
    for level, memory in zip(levels[:-1], lowest_two, strict=True):
        given = torch.cat([level, network.top.look_up(quantised.indices[0], [0, 1])[0]], dim=2)
        terms.append((memory - given).square().mean())
    terms[0] = (network.top.look_up(quantised.indices[0], [0, 1])[0] - levels[-1]).square().mean()
    assert quantised.latent.item() == pytest.approx(sum(term.item() for term in terms), rel=1e-5)


def test_a_label_switches_its_own_image_only() -> None:
    network, tokens = _network(), _tokens(3)
    with torch.no_grad():
        one, other = network(tokens, [0, 0, 1])[0], network(tokens, [0, 2, 1])[0]
    assert torch.equal(one[[0, 2]], other[[0, 2]])
    assert not torch.allclose(one[1], other[1])


def test_training_a_category_leaves_the_others_alone() -> None:
    network = _network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimiser = torch.optim.AdamW(network.parameters(), 1e-2, weight_decay=0.1)
    for _ in range(2):
        rebuilt, quantised = network(_tokens(2), [1, 1], None, nullcontext())
        optimiser.zero_grad()
        torch.autograd.backward((rebuilt - _tokens(2)).square().mean() + quantised.latent)
        optimiser.step()
    after = network.state_dict()
    for kind in ("top", "lower"):
        for name in ("codes", "sums", "counts"):
            changed = [not torch.equal(after[f"{kind}.{name}"][:, c], before[f"{kind}.{name}"][:, c]) for c in range(3)]
            assert changed == [False, True, False]
    for category in (0, 2):
        assert network.heads[category].weight.grad is None
        assert torch.equal(after[f"heads.{category}.weight"], before[f"heads.{category}.weight"])
    assert not torch.equal(after["heads.1.weight"], before["heads.1.weight"])


def test_only_codes_pass() -> None:
    """With all codes of a level equal, what is rebuilt does not depend on the image."""
    network = _network()
    for books in (network.top, network.lower):
        books.codes[:] = books.codes[:, :, :1]
    with torch.no_grad():
        one, other = network(_tokens(1, seed=1), [0])[0], network(_tokens(1, seed=2), [0])[0]
        assert torch.equal(one, other)
        assert not torch.equal(_network()(_tokens(1, seed=1), [0])[0], _network()(_tokens(1, seed=2), [0])[0])


def test_prototype_scores() -> None:
    network, lowest = _network(), _tokens(2, channels=16) * 10
    scores = network.prototype_scores(lowest, [0, 1])
    assert scores.shape == (2, 12)
    assert scores.min() >= 0
    assert scores.max() <= 2
    x, codes = lowest[1, 3].double(), network.lower.codes[0, 1].double()
    weights = torch.exp(codes @ x / 12)
    cosines = codes @ x / (codes.norm(dim=1) * x.norm())
    assert scores[1, 3].item() == pytest.approx(((1 - cosines) * weights / weights.sum()).sum().item(), rel=1e-4)
    network.lower.codes[0, 0] = lowest[0, 0] * torch.linspace(0.5, 3, 12)[:, None]
    assert network.prototype_scores(lowest, [0, 1])[0, 0].item() == pytest.approx(0, abs=1e-5)
    network.lower.codes[0, 0] *= 1e6
    assert network.prototype_scores(lowest, [0, 1]).isfinite().all(), "dead codes are huge"


def test_codes_from_tokens() -> None:
    tokens = _tokens(1, channels=3)[0]
    generator = torch.Generator().manual_seed(0)
    found = clustered(tokens, 5, 0, generator)
    assert all((tokens == code).all(dim=1).any() for code in found)
    assert len({tuple(code) for code in found.tolist()}) == 5
    every = {tuple(code) for code in clustered(tokens, 20, 0, generator).tolist()}
    assert len(every) == len(tokens), "fewer tokens than codes: all of them"
    blobs = torch.cat([torch.randn(50, 2, generator=generator) * 0.01 + centre for centre in (0.0, 5.0)])
    means = torch.stack([blobs[:50].mean(dim=0), blobs[50:].mean(dim=0)])
    found = clustered(blobs, 2, 10, torch.Generator().manual_seed(0))
    assert torch.allclose(found.sort(dim=0).values, means, atol=1e-4)


@pytest.mark.parametrize("iterations", [0, 5])
def test_a_start_from_tokens_fits_them_better(iterations: int) -> None:
    network, tokens = _network(), _tokens(6)
    with torch.no_grad():
        before = network(tokens, [0, 0, 0, 1, 1, 1])[1].latent.item()
        start_from_tokens(network, tokens.numpy(), 1.0, [0, 0, 0, 1, 1, 1], iterations=iterations, seed=0)
        after = network(tokens, [0, 0, 0, 1, 1, 1])[1].latent.item()
    assert after < before / 2
    assert (network.top.counts[:, :2] == 1).all()
    assert torch.equal(network.top.codes[:, 2], _network().top.codes[:, 2]), "a category without images"
    assert math.isfinite(after)
