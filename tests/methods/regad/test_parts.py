"""RegAD's parts: transformers and their inverses, loss, augmentation, Gaussians against a dense reference, episodes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from torch import nn

from ltbench.blocks.training.draws import Draws
from ltbench.blocks.training.rates import EpochCosine
from ltbench.errors import SpecError
from methods.regad.augmentation import VERSIONS, versions
from methods.regad.episodes import by_category, chunks, draw_supports
from methods.regad.gaussians import PlaceGaussians
from methods.regad.net import Registration, similarity
from methods.regad.transformers import SpatialTransformer, inverse, matrices, resampled


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_known_matrix() -> None:
    theta = matrices(torch.tensor([[0.3, 1.1, 0.9]]), "rotation_scale")[0]
    expected = torch.tensor([[1.050870, -0.295520, 0], [0.295520, 0.859803, 0]])
    assert torch.allclose(theta, expected, atol=1e-6)
    assert torch.linalg.det(theta[:, :2]).item() == pytest.approx(0.990873, abs=1e-6)
    assert torch.allclose(inverse(theta[None])[0, :, :2], torch.linalg.inv(theta[:, :2]))


def test_undoing_gives_a_smooth_map_back() -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 56), torch.linspace(-1, 1, 56), indexing="ij")
    smooth = torch.sin(2 * x + y)[None, None]
    theta = matrices(torch.tensor([[0.1, 1.02, 0.98]]), "rotation_scale")
    back = resampled(resampled(smooth, theta), inverse(theta))
    assert (back - smooth)[..., 10:-10, 10:-10].abs().max() < 0.01


@pytest.mark.parametrize(("channels", "side", "reduced"), [(64, 56, 14), (128, 28, 7), (256, 14, 4)])
def test_a_transformer_starts_as_the_identity(channels: int, side: int, reduced: int) -> None:
    transformer = SpatialTransformer(channels, (side, side), "rotation_scale").eval()
    x = _random(2, channels, side, side)
    with torch.no_grad():
        assert transformer.conv(x).shape == (2, 16, reduced, reduced)
        moved, theta = transformer(x)
    assert torch.equal(theta, torch.eye(2, 3).expand(2, 2, 3))
    assert (moved - x).abs().max() < 1e-4


def test_the_loss_and_its_gradients() -> None:
    network = Registration("resnet18", (64, 64), "rotation_scale", frozen=False, seed=0)
    queries, supports = torch.rand(3, 3, 64, 64), torch.rand(3, 2, 3, 64, 64)
    loss = network.loss(queries, supports)
    assert -1 <= loss.item() <= 1
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    for number in range(3):
        bias = gradients[f"transformers.{number}.fc.2.bias"]
        assert bias is not None and bias.abs().max() > 0
    target = _random(1, 4, 2, 2).requires_grad_()
    predicted = _random(1, 4, 2, 2, seed=1).requires_grad_()
    similarity(predicted, target).backward()  # type: ignore[no-untyped-call]
    assert target.grad is None and predicted.grad is not None


def test_a_query_that_is_its_own_support_and_a_predictor_that_copies() -> None:
    network = Registration("resnet18", (64, 64), "rotation_scale", frozen=False, seed=0).eval()
    network.predictor = nn.Sequential(nn.Identity())
    queries = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert network.loss(queries, queries[:, None].repeat(1, 3, 1, 1, 1)).item() == pytest.approx(-1, abs=1e-5)


def test_coarser_maps_are_repeated() -> None:
    network = Registration("resnet18", (64, 64), "rotation_scale", frozen=False, seed=0).eval()
    with torch.no_grad():
        features = network.features(torch.rand(1, 3, 64, 64))
    assert features.shape == (1, 448, 16, 16)
    assert torch.equal(features[:, 192:, ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3), features[:, 192:])


def test_22_versions_of_each_support() -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = list(versions(images))
    assert len(found) == VERSIONS == 22 and all(own.shape == images.shape for own in found)
    assert torch.equal(found[0], images) and torch.equal(found[17], images.flip(3))
    assert torch.equal(found[18][:, 0], found[18][:, 2]), "grey"
    assert torch.equal(found[19].rot90(-1, (2, 3)), images), "a quarter turn, exactly"
    assert torch.equal(found[19].rot90(1, (2, 3)), found[20])
    moved = list(versions(torch.arange(20.0).expand(1, 3, 20, 20)))[9]
    assert torch.allclose(moved[0, 0, :, :17], torch.arange(20.0).expand(20, 20)[:, 2:19], atol=1e-4), "in(x + 2)"


def _dense(samples: np.ndarray, query: np.ndarray) -> list[float]:
    found = []
    for place in range(samples.shape[1]):
        covariance = np.cov(samples[:, place], rowvar=False) + 0.01 * np.eye(samples.shape[2])
        assert np.linalg.eigvalsh(covariance).min() > 0.0099
        mean = samples[:, place].mean(axis=0)
        found.append(float(mahalanobis(query[place], mean, np.linalg.inv(covariance))))
    return found


@pytest.mark.parametrize(("count", "channels"), [(22, 96), (44, 60), (44, 12)])
def test_distances_are_those_of_the_dense_covariance(count: int, channels: int) -> None:
    samples, query = 3 * _random(count, 7, channels), 3 * _random(7, channels, seed=1)
    found = PlaceGaussians.fit(samples).distances(query[None])[0].numpy()
    assert found == pytest.approx(np.array(_dense(samples.double().numpy(), query.double().numpy())), rel=1e-4)


def test_geometry_of_distances() -> None:
    samples = _random(22, 1, 64)
    gaussians = PlaceGaussians.fit(samples)
    assert gaussians.distances(gaussians.mean[None]).item() == 0
    centred = (samples[:, 0] - samples[:, 0].mean(dim=0)).double()
    basis = torch.linalg.qr(centred.T)[0]
    outside = _random(64, seed=2).double()
    outside -= basis @ (basis.T @ outside)
    moved = gaussians.mean + 0.5 * (outside / outside.norm()).float()
    assert gaussians.distances(moved[None]).item() == pytest.approx(10 * 0.5, rel=1e-4), "nothing but the ridge there"
    shuffled = PlaceGaussians.fit(samples[torch.randperm(22, generator=torch.Generator().manual_seed(0))])
    query = _random(1, 64, seed=3)
    assert shuffled.distances(query[None]).item() == pytest.approx(gaussians.distances(query[None]).item(), rel=1e-5)
    twice = samples.repeat(2, 1, 1)
    expected = _dense(twice.double().numpy(), query.double().numpy())
    assert PlaceGaussians.fit(twice).distances(query[None]).item() == pytest.approx(expected[0], rel=1e-4)


def test_places_are_independent_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, query = _random(22, 9, 40), _random(9, 40, seed=1)
    whole = PlaceGaussians.fit(samples).distances(query[None])[0]
    monkeypatch.setattr("methods.regad.gaussians.CHUNK", 4)
    assert torch.allclose(PlaceGaussians.fit(samples).distances(query[None])[0], whole, rtol=1e-6)
    assert PlaceGaussians.fit(samples[:, 5:6]).distances(query[None, 5:6]).item() == pytest.approx(whole[5].item())


def test_distances_of_a_batch_are_those_of_each_image() -> None:
    gaussians, queries = PlaceGaussians.fit(_random(22, 9, 40)), _random(4, 9, 40, seed=1)
    each = torch.cat([gaussians.distances(query[None]) for query in queries])
    assert torch.allclose(gaussians.distances(queries), each, rtol=1e-5)
    assert torch.equal(gaussians.distances(queries.flip(0)), gaussians.distances(queries).flip(0))


def test_episodes() -> None:
    places = by_category(["a", "b", "a", "b", "a", "a", "a"])
    batches = chunks(places, 2)
    assert [own.tolist() for own in batches] == [[0, 2], [4, 5], [6], [1, 3]]
    assert [own.tolist() for own in chunks(places, 2, leave_out="a")] == [[1, 3]]
    with pytest.raises(SpecError, match="other categories than a"):
        chunks({"a": places["a"]}, 2, leave_out="a")
    with pytest.raises(SpecError, match=r"got b \(1\), c \(1\)"):
        by_category(["a", "a", "b", "c"])


def test_supports_are_never_the_query_and_all_others_come() -> None:
    images = np.array([0, 2, 4, 5, 6])
    drawn = np.stack([draw_supports(images, images, 3, Draws(seed)) for seed in range(400)])
    assert drawn.shape == (400, 5, 3)
    for row, query in enumerate(images):
        counts = {int(image): int((drawn[:, row] == image).sum()) for image in images}
        assert counts.pop(int(query)) == 0
        assert all(230 < count < 370 for count in counts.values()), "1,200 draws among four"
    pair = np.array([3, 9])
    assert draw_supports(pair, pair, 2, Draws(0)).tolist() == [[9, 9], [3, 3]]
    again = [draw_supports(images, images, 3, Draws(0)) for _ in range(2)]
    assert np.array_equal(again[0], again[1])


def test_rates_end_at_nothing() -> None:
    rate = EpochCosine()
    assert [rate.factor(step, 4, 200) for step in (0, 3)] == [rate.factor(0, 4, 200)] * 2
    assert rate.factor(96, 4, 200) == pytest.approx(0.5) and rate.factor(199, 4, 200) == pytest.approx(0, abs=1e-15)
