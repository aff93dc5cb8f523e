"""From codes to anomaly scores: windows against texts and references, and back to patches (WinCLIP, section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ltbench.blocks.vision_language import LAST, Reading, window_places

Array = NDArray[np.float32]
Scores = NDArray[np.float64]
Grid = tuple[int, int]
SMALLEST = 1e-12
"""Scores below count as this much, so that their harmonic mean exists."""


def unit(vectors: NDArray[np.floating]) -> Scores:
    """Return vectors (..., D) of length 1, in float64."""
    exact = vectors.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=-1, keepdims=True)
    directions: Scores = exact / np.where(lengths > 0, lengths, 1.0)
    return directions


def text_scores(codes: Array, texts: Scores, temperature: float) -> Scores:
    """Return the probability of "anomalous" of codes (n, D), a softmax of cosines over the temperature (equation 1).

    Args:
        codes: in the space of texts.
        texts: (2, D): the normal and the anomalous prototype, of length 1.
        temperature: tau.
    """
    normal, anomalous = (unit(codes) @ texts.T).T
    probabilities: Scores = 1.0 / (1.0 + np.exp((normal - anomalous) / temperature))
    return probabilities


def reference_scores(vectors: Array, memory: Scores) -> Scores:
    """Return half of 1 minus the highest cosine of vectors (n, D) with those of references (m, D), in [0, 1]."""
    halves: Scores = 0.5 * (1.0 - (unit(vectors) @ memory.T).max(axis=1))
    return halves


def harmonic(scores: Scores, grid: Grid, side: int) -> Scores:
    """Return for each patch the harmonic mean of the scores of the windows over it, (h, w) (equation 3).

    Args:
        scores: of the windows, row by row.
        grid: (height, width) in patches.
        side: of a window in patches.
    """
    places = window_places(grid, side)
    inverse = 1.0 / np.maximum(scores, SMALLEST)
    sums, counts = np.zeros(grid[0] * grid[1]), np.zeros(grid[0] * grid[1])
    np.add.at(sums, places, inverse[:, None])
    np.add.at(counts, places, 1.0)
    return (counts / sums).reshape(grid)


def zero_shot(reading: Reading, texts: Scores, temperature: float) -> tuple[float, Scores]:
    """Return the score of an image against texts, and its map (h, w): windows and image joined harmonically."""
    image = float(text_scores(reading.code[None], texts, temperature)[0])
    parts = [
        harmonic(text_scores(codes, texts, temperature), reading.grid, side) for side, codes in reading.windows.items()
    ]
    inverse = [1.0 / np.maximum(part, SMALLEST) for part in (*parts, np.full(reading.grid, image))]
    return image, len(inverse) / np.sum(inverse, axis=0)


def few_shot(reading: Reading, memory: Mapping[str, Scores]) -> Scores:
    """Return the map (h, w) of an image against references: the mean of its patches' and windows' (equation 5).

    Args:
        reading: of the image.
        memory: of `memorised`.
    """
    parts = [reference_scores(reading.tokens[LAST], memory["patches"]).reshape(reading.grid)]
    for side, codes in reading.windows.items():
        parts.append(harmonic(reference_scores(codes, memory[f"windows {side}"]), reading.grid, side))
    mean: Scores = np.mean(parts, axis=0)
    return mean


def memorised(references: Sequence[Reading]) -> dict[str, Array]:
    """Return what is kept of references: their patches and the codes of their windows, at all places."""
    kept = {"patches": np.concatenate([reading.tokens[LAST] for reading in references])}
    for side in references[0].windows:
        kept[f"windows {side}"] = np.concatenate([reading.windows[side] for reading in references])
    return kept
