"""A Gaussian at every place of a map from a few samples, and Mahalanobis distances from it, in low-rank form.

With n centred samples Y (n, C), fewer than channels, and the covariance S = Y^T Y / (n - 1) + r I, the matrix inversion
lemma gives for d = f - mean

    d^T S^-1 d = |d|^2 / r - |L^-1 Y d|^2 / ((n - 1) r^2),    L L^T = I + Y Y^T / ((n - 1) r)

so that a place needs a factorisation of n x n in place of C x C.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

RIDGE = 0.01
"""r, what is added to the diagonal of a covariance (MediaBrain-SJTU/RegAD, `test.py`)."""

CHUNK = 512
"""Places that are factorised at once; it bounds memory and changes nothing."""


@dataclass(frozen=True)
class PlaceGaussians:
    """A Gaussian at each of P places.

    Args:
        mean: (P, C) float32.
        whitening: (P, n, C) float32: L^-1 Y / ((n - 1)^(1/2) r); the squared length of its product with f - mean is
            taken off |f - mean|^2 / r.
        ridge: r.
    """

    mean: Tensor
    whitening: Tensor
    ridge: float = RIDGE

    @classmethod
    def fit(cls, samples: Tensor, ridge: float = RIDGE) -> PlaceGaussians:
        """Fit them to samples (n, P, C) with n > 1; factors are computed in float64."""
        count = len(samples)
        mean, whitening = [], []
        for start in range(0, samples.shape[1], CHUNK):
            rows = samples[:, start : start + CHUNK].transpose(0, 1).double()
            centre = rows.mean(dim=1, keepdim=True)
            centred = rows - centre
            gram = centred @ centred.transpose(1, 2) / ((count - 1) * ridge)
            gram.diagonal(dim1=1, dim2=2).add_(1.0)
            factor = torch.linalg.cholesky(gram)
            scaled = torch.linalg.solve_triangular(factor, centred, upper=False) / ((count - 1) ** 0.5 * ridge)
            mean.append(centre[:, 0].float())
            whitening.append(scaled.float())
        return cls(torch.cat(mean), torch.cat(whitening), ridge)

    def distances(self, features: Tensor) -> Tensor:
        """Return the Mahalanobis distances (B, P) of features (B, P, C) of images."""
        offset = features - self.mean
        inside = _products(self.whitening, offset)
        squares = offset.square().sum(dim=2).double() / self.ridge - inside.square().sum(dim=2).double()
        return squares.clamp_min(0.0).sqrt().float()


def _products(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Return the products (B, P, n) of matrices (P, n, C) and vectors (B, P, C).

    One image on a CPU takes numpy's sum of products: on one thread it reads the matrices as fast as memory gives them,
    in a sixth of the time of torch's batched product.
    """
    if matrices.device.type == "cpu" and len(vectors) == 1:
        return torch.from_numpy(np.einsum("pnc,pc->pn", matrices.numpy(), vectors[0].numpy()))[None]
    return torch.bmm(vectors.transpose(0, 1), matrices.transpose(1, 2)).transpose(0, 1)
