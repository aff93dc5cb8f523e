"""Dinomaly's network, loss and scores by what must hold of them."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ltbench.blocks.maps import upsample
from ltbench.blocks.training.draws import Draws
from ltbench.errors import SpecError
from ltbench.metrics.resolution import at_side
from methods.dinomaly.loss import distances, loose_loss, mining_share
from methods.dinomaly.method import Dinomaly, group_means
from methods.dinomaly.net import CUT, LinearAttention, LooseDecoder, _phi
from methods.dinomaly.scores import kernel, mean_map, score_grids, smoothed, top_mean

SIZES = {"small": (384, 6, 1_774_464, 1_181_568, 15_377_280, 22_057_344),
         "base": (768, 12, 7_087_872, 4_722_432, 61_425_408, 86_582_016),
         "large": (1024, 16, 12_596_224, 8_393_728, 109_163_520, 304_370_688)}  # fmt: skip
"""Width, heads; numbers in a block, the bottleneck, all that is trained, the encoder."""


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=_generator(seed))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("size", SIZES)
def test_parameters(size: str) -> None:
    width, heads, block, bottleneck, trained, encoder = SIZES[size]
    with torch.device("meta"):
        network = LooseDecoder(width, heads, 8, 0.2, seed=0)
        vit = timm.create_model(f"vit_{size}_patch14_reg4_dinov2", num_classes=0)
    found = (_count(network.decoder[0]), _count(network.bottleneck), _count(network), _count(vit))
    assert found == (block, bottleneck, trained, encoder)
    name = f"vit_{size}_patch14_reg4_dinov2.lvd142m"
    assert Dinomaly(backbone=name, heads=heads).trainable_parameters((392, 392)) == trained


def test_initial_weights() -> None:
    network = LooseDecoder(64, 4, 2, 0.0, seed=3)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        elif parameter.ndim == 1:
            assert (parameter == 1).all()
        else:
            assert parameter.abs().max() <= CUT
            assert parameter.std().item() == pytest.approx(0.00986, rel=0.05)
    same, other = LooseDecoder(64, 4, 2, 0.0, seed=3), LooseDecoder(64, 4, 2, 0.0, seed=4)
    assert torch.equal(same.decoder[0].attn.qkv.weight, network.decoder[0].attn.qkv.weight)  # type: ignore[union-attr, arg-type]
    assert not torch.equal(other.bottleneck.fc1.weight, network.bottleneck.fc1.weight)


def _attention() -> LinearAttention:
    attention = LinearAttention(32, 4, _generator())
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(_noise(*parameter.shape, seed=parameter.ndim) / 4)
    return attention


def test_linear_attention_is_a_weighted_mean_of_values() -> None:
    """With weights phi(q) . phi(k) over their sum, which are positive and add up to 1."""
    attention, x = _attention().double(), _noise(2, 17, 32).double()
    q, k, v = attention.qkv(x).view(2, 17, 3, 4, 8).permute(2, 0, 3, 1, 4)
    weights = (nn.functional.elu(q) + 1) @ (nn.functional.elu(k) + 1).transpose(-2, -1)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    assert weights.min() > 0
    wanted = attention.proj((weights @ v).transpose(1, 2).flatten(2))
    assert (attention(x) - wanted).abs().max() < 1e-7


def test_linear_attention_follows_a_permutation_of_tokens() -> None:
    attention, x, order = _attention(), _noise(1, 9, 32), torch.randperm(9, generator=_generator())
    assert torch.allclose(attention(x[:, order]), attention(x)[:, order], atol=1e-6)


def test_no_matrix_of_tokens_by_tokens_is_formed() -> None:
    tokens, sizes = 301, set[int]()

    class Sizes(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            made = function(*args, **(kwargs or {}))
            if isinstance(made, Tensor):
                sizes.update(made.shape if made.shape.count(tokens) > 1 else ())
            return made

    with Sizes():  # type: ignore[no-untyped-call]
        _attention()(_noise(1, tokens, 32)).sum().backward()
    assert not sizes


def test_heads_and_depth_that_do_not_fit() -> None:
    with pytest.raises(SpecError, match="heads that divide"):
        LooseDecoder(10, 3, 2, 0.0, seed=0)
    with pytest.raises(SpecError, match="even depth"):
        LooseDecoder(8, 2, 3, 0.0, seed=0)


class _Constant(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        """Return the constant in the shape of x."""
        return torch.full_like(x, self.value)


def test_the_decoders_order_is_reversed() -> None:
    network = LooseDecoder(8, 2, 8, 0.0, seed=0)
    network.decoder = nn.ModuleList(_Constant(float(number)) for number in range(1, 9))
    shallow, deep = network(torch.zeros(1, 3, 8))
    assert (shallow == 6.5).all()
    assert (deep == 2.5).all()


def test_groups_of_layers() -> None:
    layers = tuple(np.full((3, 2), number, np.float32) for number in range(2, 10))
    assert [group.tolist() for group in group_means(layers)] == [[[3.5, 3.5]] * 3, [[7.5, 7.5]] * 3]


def test_dropout_acts_in_the_bottleneck_and_in_training_only() -> None:
    network, x = LooseDecoder(16, 2, 2, 0.5, seed=0), _noise(2, 5, 16)
    assert torch.equal(network(x)[0], network(x)[0])
    one, same, other = (network(x, Draws(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    network.dropout = 0.0
    assert torch.equal(network(x, Draws(1))[0], network(x)[0])


class TestLoss:
    def pair(self, images: int = 16, tokens: int = 784, channels: int = 3) -> tuple[Tensor, Tensor]:
        return _noise(images, tokens, channels), _noise(images, tokens, channels, seed=1).requires_grad_()

    def gradient(self, share: float, images: int = 16) -> tuple[float, Tensor]:
        target, rebuilt = self.pair(images)
        loss = loose_loss([(target, rebuilt)], share, 0.1)
        return loss.item(), torch.autograd.grad(loss, rebuilt)[0]

    def test_of_what_is_rebuilt_whole_scaled_and_reversed(self) -> None:
        target = self.pair()[0]
        for rebuilt, wanted in ((target, 0.0), (3.7 * target, 0.0), (-target, 2.0)):
            assert loose_loss([(target, rebuilt)] * 2, 0.5, 0.1).item() == pytest.approx(wanted, abs=1e-6)
            assert distances(target, rebuilt).mean().item() == pytest.approx(wanted, abs=1e-6)

    def test_is_the_mean_over_pairs_of_one_cosine_an_image(self) -> None:
        pairs = [self.pair(2, 5), (_noise(2, 5, 3, seed=4), _noise(2, 5, 3, seed=5))]
        by_hand = [
            1 - float(t.flatten() @ r.flatten() / (t.norm() * r.norm()))
            for target, rebuilt in pairs
            for t, r in zip(target.detach(), rebuilt.detach(), strict=True)
        ]
        assert loose_loss(pairs, 0.0, 0.1).item() == pytest.approx(np.mean(by_hand), abs=1e-6)

    def test_without_mining_the_gradient_is_the_plain_one(self) -> None:
        target, rebuilt = self.pair()
        plain = (1 - nn.functional.cosine_similarity(target.flatten(1), rebuilt.flatten(1))).mean()
        assert torch.equal(self.gradient(0.0)[1], torch.autograd.grad(plain, rebuilt)[0])

    def test_well_rebuilt_points_keep_a_tenth_of_their_gradient(self) -> None:
        (value, plain), (same, mined) = self.gradient(0.0), self.gradient(0.9)
        assert value == same
        whole = (mined == plain).all(dim=2)
        assert whole.sum() == int(12_544 * (1 - 0.9)) == 1254
        assert torch.equal(mined[~whole], plain[~whole] * 0.1)
        target, rebuilt = self.pair()
        found = distances(target, rebuilt)
        assert found[whole].min() > found[~whole].max()

    def test_a_tiny_batch_keeps_one_point(self) -> None:
        target, rebuilt = self.pair(1, 3)
        loss = loose_loss([(target, rebuilt)], 0.9, 0.0)
        gradient = torch.autograd.grad(loss, rebuilt)[0]
        assert gradient.any(dim=2).sum() == 1

    def test_the_threshold_is_that_of_the_whole_batch(self) -> None:
        """Shards that tell one another their distances give the batch's gradient, whatever each holds."""
        target, _ = self.pair(4)
        rebuilt = (target + torch.arange(1, 5).view(4, 1, 1) * _noise(*target.shape, seed=2)).requires_grad_()
        whole = torch.autograd.grad(loose_loss([(target, rebuilt)], 0.7, 0.1), rebuilt)[0]
        everywhere = distances(target, rebuilt).detach().view(-1, 1)
        parts = []
        for part in (slice(0, 2), slice(2, 4)):
            own = rebuilt[part].detach().requires_grad_()
            loss = loose_loss([(target[part], own)], 0.7, 0.1, lambda values: everywhere) / 2
            parts.append(torch.autograd.grad(loss, own)[0])
        assert torch.allclose(torch.cat(parts), whole, atol=1e-9)
        alone = rebuilt[:2].detach().requires_grad_()
        apart = torch.autograd.grad(loose_loss([(target[:2], alone)], 0.7, 0.1) / 2, alone)[0]
        assert not torch.allclose(apart, whole[:2], atol=1e-9)

    def test_the_target_gets_no_gradient_hook_and_the_share_ramps(self) -> None:
        assert [mining_share(step, 0.9, 1000) for step in (0, 500, 1000, 9999)] == pytest.approx([0, 0.45, 0.9, 0.9])
        assert mining_share(0, 0.9, 0) == 0.9


class TestScores:
    def test_the_gaussian(self) -> None:
        assert kernel(4.0) == pytest.approx([0.1876, 0.2061, 0.2126, 0.2061, 0.1876], abs=1e-4)
        assert kernel(0.0).tolist() == [0, 0, 1, 0, 0]

    def test_a_constant_map_stays_constant_inside_and_falls_at_its_border(self) -> None:
        found = smoothed(np.full((20, 30), 0.7, np.float32), 4.0)
        assert np.allclose(found[2:-2, 2:-2], 0.7)
        assert found[1, 10] < 0.7 and found[0, 10] < found[1, 10]
        assert np.allclose(found[:2, 10], found[10, :2])

    def test_the_score_of_a_constant_map_is_its_value(self) -> None:
        grids = [np.full((28, 28), value, np.float32) for value in (0.6, 0.8)]
        score, anomaly_map = score_grids(grids, (392, 392), 256, 4.0, 0.01)
        assert score == pytest.approx(0.7, abs=1e-6)
        assert anomaly_map.shape == (392, 392) and anomaly_map.dtype == np.float32
        assert anomaly_map[196, 196] == pytest.approx(0.7, abs=1e-6)

    def test_the_score_is_the_mean_of_the_highest_percent(self) -> None:
        values = np.random.default_rng(0).permutation(65_536).astype(np.float32).reshape(256, 256)
        assert top_mean(values, 0.01) == pytest.approx(np.arange(65_536 - 655, 65_536).mean())
        assert top_mean(values[:3, :3], 0.01) == values[:3, :3].max()

    def test_without_a_side_the_map_is_scored_at_the_images_size(self) -> None:
        grid = np.random.default_rng(0).random((4, 4), dtype=np.float32)
        score, anomaly_map = score_grids([grid, grid], (56, 56), 0, 4.0, 0.01)
        assert score == top_mean(anomaly_map, 0.01)

    def test_what_the_way_to_the_images_size_and_back_costs(self) -> None:
        """The protocol compares pixels at 256: the map that was smoothed there comes back nearly as it was."""
        grid = np.random.default_rng(0).random((28, 28), dtype=np.float32)
        _, at_image = score_grids([grid], (392, 392), 256, 4.0, 0.01)
        back, _ = at_side(at_image[None], np.zeros((1, 392, 392), np.bool_), 256)
        exact = smoothed(upsample(mean_map([grid], (392, 392)), (256, 256)), 4.0)
        assert np.abs(back[0] - exact)[4:-4, 4:-4].max() < 0.01
        assert np.corrcoef(back[0].ravel(), exact.ravel())[0, 1] > 0.9998


def test_phi_and_its_slope_are_those_of_elu_plus_one() -> None:
    x = torch.tensor([-30.0, -2.0, -1e-3, 0.0, 1e-3, 2.0, 30.0], dtype=torch.float64, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    gradient = torch.linspace(-1, 1, 7, dtype=torch.float64)
    found, expected = _phi(x), F.elu(other) + 1
    torch.autograd.backward([found, expected], [gradient, gradient])
    assert torch.allclose(found, expected, rtol=1e-15, atol=1e-16)
    assert x.grad is not None and other.grad is not None
    assert torch.allclose(x.grad, other.grad, rtol=1e-15, atol=1e-16)
    assert torch.autograd.gradcheck(_phi, (x.detach()[1:3].requires_grad_(),))
