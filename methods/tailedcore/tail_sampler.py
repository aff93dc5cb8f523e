"""TailSampler: how many images look like this one, and which images belong to a tail.

From one embedding an image, without labels, it estimates the size of each image's category (kappa), from these the
sizes of all categories (eta), and from those up to which size a category counts as tail (max_K).

Source: Jung et al., TailedCore: Few-Shot Sampling for Unsupervised Long-Tail Noisy Anomaly Detection, CVPR 2025,
arXiv:2504.02775. The defaults are those of the authors' released program, which differs from the paper in three points,
each an option here: the vote is taken over the rows that contain an image, not over the images in its row
(`vote_direction`), similarities are floored to a grid of 1/n before the threshold is chosen (`quantize`), and the
tail holds at most 15 % of the images by the estimated sizes (`cap`; 1 is no such limit). As in the program, a
neighbourhood includes its boundary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltbench.blocks.tails.cosine import CosineBlocks, half_angle
from ltbench.errors import ContractError, SpecError

VoteDirection = Literal["reverse", "forward"]
Threshold = Literal["trim_min", "half_min", "symmin", "indep"]
Vote = Literal["mode", "mean"]
_CHOICES = {"vote_direction": get_args(VoteDirection), "threshold": get_args(Threshold), "vote": get_args(Vote)}


@dataclass
class TailSampler:
    """Estimate category sizes and find the images of tail categories, from embeddings alone.

    Defined answers where the authors' program has none: an image always belongs to its own neighbourhood. If all
    embeddings are equal, all of them are one category. A zero embedding is similar to itself only: a category of one.

    Args:
        p: share of the half-angle region that stays within the threshold, in (0, 1]; the others are trimmed.
        vote_direction: who votes on the size of image j: "reverse", the images that have j in their neighbourhood
            (released program); "forward", the images in the neighbourhood of j (paper).
        quantize: floor similarities to multiples of 1/n before the threshold is chosen from them ("trim_min" only).
            This lowers a threshold by up to 1/n and so lets most trimmed members of a tight category in again.
        cap: share of the images, by the estimated sizes, that tail categories may make up, in [0, 1]. The smallest
            category is always tail.
        threshold: "trim_min", adaptive and trimmed to `p`; the authors' ablations "half_min", the half angle of
            each row itself, "symmin", one half angle from the least similarity of all, and "indep", 45 degrees.
        vote: "mode", the most frequent neighbourhood size, the smallest of equally frequent ones; "mean" (ablation).
        block_mib: MiB of float32 similarities held at once. It bounds memory and does not change the result.

    Attributes:
        thresholds_: (n,) float32, cosine from which on an image is a neighbour (theta).
        neighbour_counts_: (n,) int64, images in each neighbourhood, itself included (N).
        kappa_: (n,) float64, estimated size of the category of each image.
        class_sizes_: (C,) int64, estimated sizes of all categories, descending (eta); their sum is n.
        elbow_size_: size at the elbow of `class_sizes_`.
        cap_size_: size of the largest category within `cap`.
        max_tail_size_: up to which size a category is tail, the smaller of the two (max_K).
        tail_indices_: (t,) int64, images predicted to be tail, ascending.

    Raises:
        SpecError: a hyper-parameter out of range.
    """

    p: float = 0.85
    vote_direction: VoteDirection = "reverse"
    quantize: bool = True
    cap: float = 0.15
    threshold: Threshold = "trim_min"
    vote: Vote = "mode"
    block_mib: float = 256.0

    thresholds_: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    neighbour_counts_: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    kappa_: NDArray[np.float64] = field(init=False, repr=False, compare=False)
    class_sizes_: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    elbow_size_: int = field(init=False, repr=False, compare=False)
    cap_size_: int = field(init=False, repr=False, compare=False)
    max_tail_size_: int = field(init=False, repr=False, compare=False)
    tail_indices_: NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise SpecError(f"Expected p in (0, 1], got {self.p}. The authors use 0.85.")
        if not 0 <= self.cap <= 1:
            raise SpecError(f"Expected cap in [0, 1], got {self.cap}. The authors use 0.15; 1 is no cap.")
        if not 0 < self.block_mib < math.inf:
            raise SpecError(f"Expected block_mib above 0, got {self.block_mib}. The default is 256.")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise SpecError(f"Expected {name} among {choices}, got {getattr(self, name)!r}. Choose one of them.")

    def fit(self, E: ArrayLike) -> Self:
        """Estimate category sizes and tails from embeddings.

        Similarities are computed exactly before they are rounded to float32, so the result does not depend on
        `block_mib` or the number of threads, and a permutation of the images permutes it. It takes O(n^2 d) time and
        O(n d) memory besides the block, and makes two passes over the similarities ("symmin" three) if
        they do not fit in one block.

        Args:
            E: (n, d) finite embeddings, one an image, n >= 2, of any length.

        Returns:
            self.

        Raises:
            ContractError: embeddings of another shape or type, or NaN or infinity among them.
        """
        blocks = CosineBlocks(E, block_bytes=int(self.block_mib * 2**20))
        n = len(blocks)
        common = self._common_threshold(blocks)
        thresholds = np.empty(n, np.float32)
        counts = np.empty(n, np.int64)
        for rows, S in blocks:
            thresholds[rows] = [self._row_threshold(row) for row in S] if common is None else common
            counts[rows] = np.count_nonzero(thresholds[rows, None] <= S, axis=1)
        kappa = np.empty(n, np.float64)
        for rows, S in blocks:
            # S is symmetric: row j against the thresholds of all images tells which neighbourhoods contain j.
            bounds = thresholds if self.vote_direction == "reverse" else thresholds[rows, None]
            voters = bounds <= S
            kappa[rows] = _mode(voters, counts) if self.vote == "mode" else _mean(voters, counts)
        self.thresholds_, self.neighbour_counts_ = thresholds, counts
        return self._fit_sizes(kappa)

    def fit_sizes(self, kappa: ArrayLike) -> Self:
        """Find the tails from given category sizes, one an image; with the true sizes this is the oracle.

        It sets all that follows from kappa; `thresholds_` and `neighbour_counts_` of an earlier fit are removed.

        Args:
            kappa: (n,) finite sizes, n >= 1; fractions are allowed.

        Returns:
            self.

        Raises:
            ContractError: sizes of another shape, or NaN or infinity among them.
        """
        sizes = np.array(kappa, dtype=np.float64)
        if sizes.ndim != 1 or not len(sizes) or not np.isfinite(sizes).all():
            raise ContractError(f"Expected finite sizes of shape (n,), got shape {sizes.shape}. Pass one an image.")
        for name in ("thresholds_", "neighbour_counts_"):
            self.__dict__.pop(name, None)
        return self._fit_sizes(sizes)

    def _fit_sizes(self, kappa: NDArray[np.float64]) -> Self:
        self.kappa_ = kappa
        self.class_sizes_ = class_sizes(kappa)
        self.elbow_size_ = elbow_size(self.class_sizes_)
        self.cap_size_ = cap_size(self.class_sizes_, self.cap)
        self.max_tail_size_ = min(self.elbow_size_, self.cap_size_)
        self.tail_indices_ = np.flatnonzero(kappa <= self.max_tail_size_).astype(np.int64)
        return self

    def _common_threshold(self, blocks: CosineBlocks) -> np.float32 | None:
        """Return the one threshold of a rule that is not adaptive, else None."""
        if self.threshold == "symmin":
            return half_angle(np.float32(min(S.min() for _, S in blocks)))
        return half_angle(np.float32(0)) if self.threshold == "indep" else None

    def _row_threshold(self, similarities: NDArray[np.float32]) -> np.float32:
        if self.threshold == "half_min":
            return half_angle(similarities.min())
        return trimmed_threshold(similarities, self.p, self.quantize)


def sampler_bytes(n: int, columns: int, block_mib: float = TailSampler.block_mib) -> int:
    """Return the bytes that `fit` takes for n embeddings: them twice, a block and its votes, a strip of products."""
    block = min(4 * n * n, max(4 * n, int(block_mib * 2**20)))
    return 8 * n * columns + 2 * block + 2**26


def trimmed_threshold(similarities: NDArray[np.float32], p: float, quantize: bool) -> np.float32:
    """Return the adaptive threshold theta of one image ("trim_min" of the released program).

    Images within half the angle to the farthest image form the region; theta is the similarity of its
    floor(p L)-th nearest of L, or of its farthest if floor(p L) is 0. An empty region (all similarities are 1) gives
    the largest similarity.

    Args:
        similarities: (n,) float32 cosines of the image to all images, itself included.
        p: share of the region to keep.
        quantize: truncate similarities towards zero to multiples of 1/n first.
    """
    q = similarities
    if quantize:
        n = np.float32(len(q))
        q = np.trunc(q * n) / n
    region = q[q > half_angle(q.min())]
    if not len(region):
        return np.float32(q.max())
    keep = int(p * len(region))
    position = len(region) - keep if keep else 0
    return np.float32(np.partition(region, position)[position])


def class_sizes(kappa: ArrayLike) -> NDArray[np.int64]:
    """Return the sizes of all categories, descending, from the size of each image's category (eta).

    Of the ascending sizes, the first window is as long as its first size says. Its mean, rounded, is the size of a
    category, so many images are taken away, and so on. If too few are left for a window, they join the last category.
    The sum is n. Sizes and means are rounded half to even, sizes to 1 at least. Sums are exact integers.

    Args:
        kappa: (n,) sizes, n >= 1.
    """
    ascending = np.sort(np.maximum(np.rint(np.asarray(kappa, np.float64)), 1).astype(np.int64))
    sums = np.concatenate([[0], np.cumsum(ascending)])
    n, start = len(ascending), 0
    sizes: list[int] = []
    while start < n:
        window = int(ascending[start])
        if n - start < window:
            if sizes:
                sizes[-1] += n - start
            else:
                sizes.append(n)
            break
        mean = int(sums[start + window] - sums[start]) / window
        sizes.append(min(round(mean), n - start))
        start += sizes[-1]
    return np.sort(np.array(sizes, np.int64))[::-1]


def elbow_size(sizes: NDArray[np.int64]) -> int:
    """Return the size at the elbow, the first of the points farthest from the chord between the first and the last.

    Up to the length of the chord, the distance of point (i, eta_i) is |(eta_last - eta_0) i - (C - 1) (eta_i - eta_0)|.
    Without a bend, as with one or two categories or equal sizes, this is the largest size.

    Args:
        sizes: (C,) sizes, descending.
    """
    i = np.arange(len(sizes))
    distances = np.abs((sizes[-1] - sizes[0]) * i - (len(sizes) - 1) * (sizes - sizes[0]))
    return int(sizes[np.argmax(distances)])


def cap_size(sizes: NDArray[np.int64], cap: float) -> int:
    """Return the size of the largest category such that it and all smaller ones hold at most a share of all images.

    Categories are added from the smallest up while their sum is at most floor(cap n). If not even the smallest fits,
    its size is returned.

    Args:
        sizes: (C,) sizes, descending.
        cap: the share.
    """
    ascending = sizes[::-1]
    within = int(np.searchsorted(np.cumsum(ascending), int(cap * int(sizes.sum())), side="right"))
    return int(ascending[max(within - 1, 0)])


def _mode(voters: NDArray[np.bool_], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each row the most frequent count of its voters, the smallest of equally frequent ones."""
    values, ranks = np.unique(counts, return_inverse=True)
    winners = [int(np.bincount(ranks[row]).argmax()) for row in voters]
    return values[winners].astype(np.float64)


def _mean(voters: NDArray[np.bool_], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each row the mean count of its voters; the sum is exact, so order does not matter."""
    return np.array([counts[row].sum() / np.count_nonzero(row) for row in voters], np.float64)
