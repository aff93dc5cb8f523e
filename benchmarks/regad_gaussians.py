"""Time RegAD's Gaussians and Mahalanobis maps beside a loop over places with numpy and scipy.

    python benchmarks/regad_gaussians.py
    python benchmarks/regad_gaussians.py --side 28 --supports 4

The loop is what the released code does: at each place the covariance of the augmented supports, plus 0.01 on its
diagonal, is inverted, and `scipy.spatial.distance.mahalanobis` gives a query's distance. The other side is
`methods.regad.gaussians`. Samples are random numbers of the real shapes: 22 versions of each support, 448 channels at
each place. The loop is timed on every `--every`-th place and multiplied. One thread, float32 samples.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from scipy.spatial.distance import mahalanobis

from ltbench.blocks.threads import torch_on_one_thread
from methods.regad.augmentation import VERSIONS
from methods.regad.gaussians import RIDGE, PlaceGaussians


def main() -> None:
    """Print seconds, factors and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=56, help="places along a side of the map")
    parser.add_argument("--supports", type=int, default=2)
    parser.add_argument("--channels", type=int, default=448)
    parser.add_argument("--every", type=int, default=16, help="the loop takes every so many-th place")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    rng = torch.Generator().manual_seed(0)
    places = asked.side**2
    shared = torch.randn(1, places, asked.channels, generator=rng)
    samples = shared + torch.randn(VERSIONS * asked.supports, places, asked.channels, generator=rng)
    query = shared[0] + torch.randn(places, asked.channels, generator=rng)

    fits, maps = [], []
    with torch_on_one_thread(), torch.inference_mode():
        for _ in range(asked.rounds):
            start = time.perf_counter()
            gaussians = PlaceGaussians.fit(samples)
            middle = time.perf_counter()
            found = gaussians.distances(query)
            fits.append(middle - start)
            maps.append(time.perf_counter() - middle)

    taken = range(0, places, asked.every)
    rows, asked_of = samples.numpy(), query.numpy()
    start = time.perf_counter()
    loop = [_gaussian(rows[:, place]) for place in taken]
    middle = time.perf_counter()
    distances = [
        mahalanobis(asked_of[place], mean, inverse) for place, (mean, inverse) in zip(taken, loop, strict=True)
    ]
    end = time.perf_counter()
    share = places / len(taken)
    slow, fast = (share * (middle - start), share * (end - middle)), (np.median(fits), np.median(maps))
    print(f"{places} places, {len(samples)} samples of {asked.channels} channels")
    print(f"Gaussians of a category: loop {slow[0]:.2f} s, ltbench {fast[0]:.3f} s, factor {slow[0] / fast[0]:.1f}")
    print(f"map of an image: loop {slow[1]:.3f} s, ltbench {fast[1]:.4f} s, factor {slow[1] / fast[1]:.1f}")
    exact = np.array(distances)
    print(f"largest relative difference: {np.max(np.abs(found.numpy()[:: asked.every] - exact) / exact):.1e}")


def _gaussian(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    covariance = np.cov(rows.astype(np.float64), rowvar=False) + RIDGE * np.eye(rows.shape[1])
    return rows.mean(axis=0), np.linalg.inv(covariance)


if __name__ == "__main__":
    main()
