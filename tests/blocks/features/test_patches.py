"""Patch vectors against released code's values, the definition spelled out, and a reference on a real image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ltbench.blocks.features.backbones import load_backbone
from ltbench.blocks.features.patches import official_patches, pooled_patches
from tests.shared import SHARED

SCREW = SHARED / "data" / "industrial8" / "screw/test/good/000.jpg"

Maps = tuple[NDArray[np.float32], ...]


def by_definition(maps: Maps, embed_dim: int) -> NDArray[np.float32]:
    """Unfold, resize, average, stack, average: step by step as patchcore-inspection does."""
    height, width = maps[0].shape[1:]
    levels = []
    for level in maps:
        channels, h, w = level.shape
        patches = F.unfold(torch.tensor(level)[None], 3, padding=1)[0].view(channels * 9, h, w)
        resized = F.interpolate(patches[None], (height, width), mode="bilinear", align_corners=False)[0]
        levels.append(F.adaptive_avg_pool1d(resized.flatten(1).T[:, None], embed_dim))
    both = torch.cat(levels, dim=1).reshape(height * width, 1, -1)
    return F.adaptive_avg_pool1d(both, embed_dim)[:, 0].numpy()


class TestOfficial:
    def test_values_of_the_released_code(self) -> None:
        """Golden values: patchcore-inspection on normal noise of WideResNet50-2's shapes, RandomState(0)."""
        random = np.random.RandomState(0)
        second, third = (random.randn(2, *shape).astype(np.float32) for shape in ((512, 28, 28), (1024, 14, 14)))
        images = [official_patches(maps) for maps in zip(second, third, strict=True)]
        assert [grid for _, grid in images] == [(28, 28)] * 2
        patches = np.concatenate([patches for patches, _ in images])
        assert patches.shape == (1568, 1024)
        assert patches.dtype == np.float32
        assert patches.sum(dtype=np.float64) == pytest.approx(683.2617, abs=2e-3)
        assert np.abs(patches).sum(dtype=np.float64) == pytest.approx(345333.2921, rel=1e-6)
        assert np.linalg.norm(patches[0]) == pytest.approx(7.120352, abs=1e-5)
        np.testing.assert_allclose(patches[0, :4], [0.693040, 0.145614, 0.135018, 0.188433], atol=1e-6)
        np.testing.assert_allclose(patches[0, 512:516], [0.095897, 0.155154, 0.137783, -0.188416], atol=1e-6)
        np.testing.assert_allclose(
            patches[400, [0, 511, 512, 1023]], [-0.490069, -0.104274, -0.185511, -0.255853], atol=1e-6
        )
        assert patches[1567, -1] == pytest.approx(0.084411, abs=1e-6)

    @pytest.mark.parametrize(
        ("channels", "embed_dim"),
        [
            ((512, 1024), 1024),  # WideResNet50-2, layers 2 and 3: whole channels
            ((128, 256), 128),  # ResNet18 at a multiple
            ((128, 256), 1024),  # ResNet18 at the default: averages straddle channels
            ((40, 112), 64),
            ((24,), 24),
            ((16, 24, 40), 48),
        ],
    )
    def test_equals_the_definition(self, channels: tuple[int, ...], embed_dim: int) -> None:
        random = np.random.default_rng(1)
        maps = tuple(
            random.standard_normal((count, 12 >> level, 8 >> level), dtype=np.float32)
            for level, count in enumerate(channels)
        )
        patches, grid = official_patches(maps, embed_dim)
        assert grid == (12, 8)
        np.testing.assert_allclose(patches, by_definition(maps, embed_dim), atol=2e-6)


class TestPooled:
    @pytest.mark.skipif(not SCREW.exists(), reason="needs ../shared")
    def test_values_of_a_reference_on_a_real_image(self) -> None:
        image = np.array(Image.open(SCREW).convert("RGB").crop((16, 16, 240, 240)))
        patches, grid = pooled_patches(load_backbone("tf_efficientnet_lite0", (2, 3))(image))
        assert grid == (14, 14)
        assert patches.shape == (196, 152)
        assert patches.sum() == pytest.approx(-5741.044, rel=1e-3)
        assert np.abs(patches).sum() == pytest.approx(77937.438, rel=1e-3)
        np.testing.assert_allclose(patches[0, :3], [-7.14027, -1.25789, 0.92183], rtol=1e-3)

    @given(seed=st.integers(0, 1000), height=st.integers(1, 5), width=st.integers(1, 5))
    @settings(max_examples=25, deadline=None)
    def test_equals_sums_written_out(self, seed: int, height: int, width: int) -> None:
        random = np.random.default_rng(seed)
        fine = random.standard_normal((3, 2 * height, 2 * width), dtype=np.float32)
        coarse = random.standard_normal((2, height, width), dtype=np.float32)
        patches, grid = pooled_patches((fine, coarse))
        assert grid == (height, width)
        assert patches.shape == (height * width, 5)
        row, column = height - 1, width // 2
        expected = [sum(nine(plane, 2 * row + i, 2 * column + j) for i in (0, 1) for j in (0, 1)) / 4 for plane in fine]
        expected += [nine(plane, row, column) for plane in coarse]
        np.testing.assert_allclose(patches[row * width + column], expected, atol=1e-5)

    def test_one_level_keeps_its_grid(self) -> None:
        patches, grid = pooled_patches((np.ones((4, 5, 6), dtype=np.float32),))
        assert grid == (5, 6)
        np.testing.assert_allclose(patches[0], 4 / 9, rtol=1e-6)
        np.testing.assert_allclose(patches[8], 1, rtol=1e-6)


def nine(plane: NDArray[np.float32], row: int, column: int) -> float:
    padded = np.pad(plane.astype(np.float64), 1)
    return float(padded[row : row + 3, column : column + 3].sum() / 9)


def test_patches_do_not_depend_on_the_number_of_threads() -> None:
    random = np.random.default_rng(2)
    maps = tuple(random.standard_normal(shape, dtype=np.float32) for shape in ((512, 28, 28), (1024, 14, 14)))
    before = torch.get_num_threads()
    one = official_patches(maps)[0], pooled_patches(maps)[0]
    try:
        torch.set_num_threads(before + 1)
        more = official_patches(maps)[0], pooled_patches(maps)[0]
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(one[0], more[0])
    np.testing.assert_array_equal(one[1], more[1])
