"""Random numbers for training that depend on named seeds alone: not on threads, interruptions or global generators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Draws:
    """A stream of random numbers, on the device where they are used.

    On a CPU they come from numpy's SFC64, whose bits cost a tenth of torch's; on CUDA from a generator of torch there.

    Args:
        seeds: whole numbers from 0; other numbers, another stream (seed of the run, epoch, step, shard, ...).
        device: where the tensors go.
    """

    def __init__(self, *seeds: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        sequence = np.random.SeedSequence(seeds)
        self._rng = np.random.Generator(np.random.SFC64(sequence))
        self._cuda: torch.Generator | None = None
        if self.device.type == "cuda":
            self._cuda = torch.Generator(self.device)
            self._cuda.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))

    def uniform(self) -> float:
        """Return one number from U[0, 1)."""
        return float(self._rng.random())

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return numbers from N(0, 1), float32."""
        if self._cuda is not None:
            return torch.randn(tuple(shape), generator=self._cuda, device=self.device)
        return torch.from_numpy(self._rng.standard_normal(tuple(shape), dtype=np.float32)).to(self.device)

    def bernoulli(self, shape: Sequence[int], probability: float) -> Tensor:
        """Return ones with the given probability, else zeros, uint8. The probability is exact, to the last bit."""
        if self._cuda is not None:
            ones = torch.empty(tuple(shape), dtype=torch.uint8, device=self.device)
            return ones.bernoulli_(probability, generator=self._cuda)
        count = int(np.prod(shape))
        return torch.from_numpy(self._below(count, probability).view(np.uint8)).view(tuple(shape)).to(self.device)

    def subset(self, count: int, size: int) -> Tensor:
        """Return `size` different indices of `count`, int64."""
        return torch.from_numpy(self._rng.choice(count, size, replace=False)).to(self.device)

    def dropout(self, x: Tensor, probability: float) -> Tensor:
        """Return `x` with each value set to zero with the given probability, the others divided by the rest of it."""
        if probability == 0:
            return x
        kept = self.bernoulli(x.shape, 1 - probability).to(x.dtype)
        return x * kept.mul_(1 / (1 - probability))

    def _below(self, count: int, probability: float) -> NDArray[np.bool_]:
        """Return `count` independent truths with the given probability.

        A random byte decides, unless it equals the probability's first binary digits (one in 256): then the next byte
        does.
        """
        words = self._rng.integers(0, 2**64 - 1, size=-(-count // 8), dtype=np.uint64, endpoint=True)
        octets = words.view(np.uint8)[:count]
        first = int(probability * 256)
        rest = probability * 256 - first
        if first >= 256:
            return np.ones(count, np.bool_)
        below: NDArray[np.bool_] = octets < first
        if rest:
            ties = np.flatnonzero(octets == first)
            if len(ties):
                below[ties] = self._below(len(ties), rest)
        return below
