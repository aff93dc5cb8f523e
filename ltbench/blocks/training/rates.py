"""How a learning rate changes with the steps, as a factor of what it was at first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Shares:
    """Multiplied by `gamma` once each of these shares of the training is done, rounded to whole epochs or steps."""

    shares: tuple[float, ...]
    gamma: float
    whole_epochs: bool = True

    def factor(self, step: int, steps: int, total: int) -> float:
        """Return the factor in a step."""
        unit = steps if self.whole_epochs else 1
        drops = (math.floor(share * total / unit + 0.5) for share in self.shares)
        return self.gamma ** sum(step // unit >= drop for drop in drops)


@dataclass(frozen=True, slots=True)
class Cosine:
    """From 0 to 1 in a straight line over `warmup` steps, then down half a cosine to `final` behind the last step.

    Step s of the warm-up has s / (warmup - 1), so that the first step of all changes nothing and the last has 1
    already, as numpy.linspace(0, 1, warmup) makes it (Dinomaly's code).
    """

    warmup: int = 0
    final: float = 0.0

    def factor(self, step: int, steps: int, total: int) -> float:
        """Return the factor in a step."""
        if step < self.warmup:
            return step / max(self.warmup - 1, 1)
        share = (step - self.warmup) / max(total - self.warmup, 1)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * share))


@dataclass(frozen=True, slots=True)
class LaggedCosine:
    """Half a cosine from 1 to 0 over the training, one step late: the first two steps have 1.

    So runs a scheduler that is told, after each update, the number of the update just done.
    """

    def factor(self, step: int, steps: int, total: int) -> float:
        """Return the factor in a step."""
        return 0.5 * (1 + math.cos(math.pi * max(step - 1, 0) / total))


@dataclass(frozen=True, slots=True)
class EpochCosine:
    """Half a cosine by epochs, which are counted from 1: the last one has exactly 0."""

    def factor(self, step: int, steps: int, total: int) -> float:
        """Return the factor in a step."""
        epochs = math.ceil(total / steps)
        return 0.5 * (1 + math.cos(math.pi * (step // steps + 1) / epochs))


@dataclass(frozen=True, slots=True)
class WarmupDecay:
    """Up to 1 over the first `share` of the training, at least two updates, then down to 0 in a straight line.

    So runs DeepSpeed's WarmupDecayLR, which is told of an update when it is done: the warm-up, logarithmic unless asked
    otherwise, begins with the second update, at 0. The first one has the optimiser's own rate, 1, in DeepSpeed 0.9.2,
    which AnomalyGPT was trained with; later releases begin at 0 twice.
    """

    share: float
    shape: Literal["log", "linear"] = "log"

    def factor(self, step: int, steps: int, total: int) -> float:
        """Return the factor in a step."""
        done, warmup = step - 1, max(2, int(self.share * total))
        if done < 0:
            return 1.0
        if done < warmup:
            return math.log(done + 1) / math.log(warmup) if self.shape == "log" else done / warmup
        return max(0.0, (total - done) / max(1, total - warmup))
