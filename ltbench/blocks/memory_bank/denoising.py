"""Leaving outlying patches out of a memory bank, as SoftPatch (arXiv 2403.14233) does and TailedCore after it.

Each patch is weighed against the patches at the same place of the other images; those with the largest weights are
taken to be defects and do not enter the memory bank.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ltbench.blocks.memory_bank.coreset import coreset_size, draw_start, greedy_coreset
from ltbench.blocks.memory_bank.lof import LOF_NEIGHBOURS, gaussian_weight, local_outlier_factor, nearest_weight
from ltbench.blocks.memory_bank.projection import project, project_chosen
from ltbench.blocks.memory_bank.rows import Rows, every
from ltbench.errors import ContractError, SpecError

WeightMethod = Literal["lof", "nearest", "gaussian"]

OUTLIER_SHARE = 0.15
"""Share of the patches that is left out: SoftPatch's threshold tau, and TailedCore's."""

PROJECTION_DIM = 128
"""Dimensions in which patches are weighed (src/softpatch.py; the coreset has a projection of its own)."""

POSITIONS = 32
"""Positions that are weighed together: so much of the projected patches is held at once where they lie in a file."""

Mask = NDArray[np.bool_]


def patch_weights(
    patches: Rows,
    positions: int,
    *,
    rng: np.random.RandomState,
    method: WeightMethod = "lof",
    lof_k: int = LOF_NEIGHBOURS,
    projection_dim: int = PROJECTION_DIM,
    folder: Path | None = None,
    device: str = "cpu",
) -> NDArray[np.float64]:
    """Return how outlying every patch is among the patches at its position in all images.

    Args:
        patches: (N * positions, D), image by image, as `PatchEmbedder.matrix` returns them.
        positions: patches of one image.
        rng: draws the projection, unless D is `projection_dim` already.
        method: "lof" for local outlier factors, "nearest" and "gaussian" for 1 + the distance to the nearest patch and
            to the mean (`ltbench.blocks.memory_bank.lof`).
        lof_k: neighbours of the local outlier factor.
        projection_dim: dimensions of the random projection in which patches are compared.
        folder: where the projected patches are kept in a temporary file, or None to have them in memory.
        device: where they are projected.

    Returns:
        (N * positions,) float64, in the order of the patches, higher = more outlying.

    Raises:
        ContractError: rows that are no whole number of images, or fewer than 2 images.
    """
    if positions < 1 or len(patches) % positions:
        raise ContractError(
            f"Expected {positions} patches of each image, got {len(patches)} in all. Give images of one size."
        )
    projected = project(patches, projection_dim, rng, folder, device)
    weights = np.empty((len(patches) // positions, positions))
    for first in range(0, positions, POSITIONS):
        last = min(first + POSITIONS, positions)
        points = every(projected, positions, first, last)
        match method:
            case "lof":
                found = local_outlier_factor(points, lof_k)
            case "nearest":
                found = nearest_weight(points)
            case "gaussian":
                found = gaussian_weight(points)
        weights[:, first:last] = found.T
    return weights.ravel()


def inliers(weights: NDArray[np.floating], share: float = OUTLIER_SHARE, *, strict: bool = True) -> Mask:
    """Return which patches enter the memory bank: those whose weight is below the quantile 1 - share of all weights.

    The quantile is interpolated linearly. Where no weight is below it, because that many patches share the smallest
    one (the same image again and again), these patches are kept: nothing tells them apart, and the authors' code would
    be left without a memory bank.

    Args:
        weights: (N,) of `patch_weights`.
        share: share of the patches to leave out, in [0, 1); of share 0, strictly, the largest weight alone is left out.
        strict: leave out patches whose weight equals the quantile (TailedCore's code), or keep them (SoftPatch's).

    Returns:
        (N,), True at the patches to keep, at least one of them.

    Raises:
        SpecError: a share outside [0, 1).
    """
    if not 0 <= share < 1:
        raise SpecError(f"Expected a share of outliers in [0, 1), got {share}. The papers use {OUTLIER_SHARE}.")
    threshold = np.quantile(weights, 1 - share)
    below: Mask = weights < threshold
    return below if strict and below.any() else weights <= threshold


def denoised_coreset(
    patches: Rows,
    keep: Mask,
    ratio: float,
    *,
    projection_dim: int = PROJECTION_DIM,
    rng: np.random.RandomState,
    device: str = "cpu",
) -> NDArray[np.int64]:
    """Return the rows of an exact greedy coreset of the patches to keep, in the order of picking.

    What `choose_coreset(patches[keep], ratio, "exact")` is for, without a copy of the patches: of those to keep the
    projections are made, of the others nothing.

    Args:
        patches: (N, D).
        keep: (N,), True at the patches to choose from.
        ratio: share of the patches to choose from that is picked: floor(ratio * count), but at least one.
        projection_dim: dimensions that distances are measured in.
        rng: draws the projection, then the start.
        device: where the patches are projected.

    Returns:
        Indices into `patches`.
    """
    rows = np.flatnonzero(keep)
    projected = project_chosen(patches, rows, projection_dim, rng, device)
    return rows[greedy_coreset(projected, coreset_size(ratio, len(rows)), start=draw_start(len(rows), rng))]
