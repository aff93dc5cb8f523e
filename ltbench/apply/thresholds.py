"""From which score on an image is called defective, and by which rule: honest, or declared as seen."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ltbench.errors import SpecError
from ltbench.metrics.thresholds import f1_threshold
from ltbench.runs.models import SavedModel

F1_MAX = "f1_max"
FALSE_ALARMS = "false_alarms"
RULES = f"{FALSE_ALARMS}=1%, {F1_MAX} or a number"

_RATE = re.compile(rf"{FALSE_ALARMS}=([0-9]+(?:\.[0-9]+)?)%")


@dataclass(frozen=True, slots=True)
class Threshold:
    """A score, from which on an image is called defective, and where it comes from.

    Args:
        value: the score.
        rule: in words, for whoever reads the decisions.
    """

    value: float
    rule: str

    def decide(self, score: float) -> str:
        """Return "defective" or "good"."""
        return "defective" if score >= self.value else "good"


def threshold_of(model: SavedModel, rule: str, category: str | None = None) -> Threshold:
    """Return the threshold that a rule gives for a saved method.

    `false_alarms=P%` goes by the training images that were kept aside, which the method has not seen: of n scores it
    takes the k-th largest, k = floor((n + 1) P), and calls defective what lies above it. A new good image lies there
    with probability k / (n + 1) <= P, whatever the distribution (conformal prediction; Vovk et al., 2005), if it is
    like those. `f1_max` is the threshold of the largest F1 on the test images, whose labels it has seen.

    Args:
        model: the saved method.
        rule: `false_alarms=P%`, `f1_max` or a number.
        category: the category whose images count, or None for all.

    Raises:
        SpecError: no such rule, no images to set it by, or too few for the rate.
    """
    where = f" of {category}" if category else ""
    if rule == F1_MAX:
        parts = [own for name, own in sorted(model.tested.items()) if category in (None, name)]
        good = [score for own in parts for score in own["good"]]
        defective = [score for own in parts for score in own["defective"]]
        if not good or not defective:
            raise SpecError(f"Expected good and defective test images{where} for {F1_MAX}, got none. Use another rule.")
        labels = np.array([False] * len(good) + [True] * len(defective))
        value = f1_threshold(np.array(good + defective), labels)
        return Threshold(value, f"largest F1 on {len(labels)} test images{where}, their labels seen")
    if (found := _RATE.fullmatch(rule)) is not None:
        rate = float(found[1]) / 100
        scores = sorted(chain.from_iterable(own for name, own in model.calibration.items() if category in (None, name)))
        return _false_alarms(np.array(scores), rate, where, model)
    try:
        value = float(rule)
        if not math.isfinite(value):
            raise ValueError
    except ValueError:
        raise SpecError(f"Expected a threshold rule ({RULES}), got {rule!r}. Mend --threshold.") from None
    return Threshold(value, "given")


def _false_alarms(scores: NDArray[np.float64], rate: float, where: str, model: SavedModel) -> Threshold:
    if not 0 < rate < 1:
        raise SpecError(f"Expected a rate between 0 and 100 %, got {rate:.4%}. Mend --threshold.")
    count = len(scores)
    if count == 0:
        raise SpecError(
            f"Expected training images{where} that were kept aside, got none. Fit the method with --calibrate 10% "
            f"--save-model, or pass --threshold {F1_MAX}."
        )
    allowed = math.floor((count + 1) * rate)
    if allowed < 1:
        raise SpecError(
            f"Expected at least {math.ceil(1 / rate) - 1} images{where} kept aside for false alarms of {rate:.2%}, got "
            f"{count}. Allow {1 / (count + 1):.1%} or more, or fit the method with a larger --calibrate."
        )
    kind = np.float32 if np.array_equal(scores, scores.astype(np.float32)) else np.float64
    above = float(np.nextafter(kind(scores[-allowed]), kind(np.inf)))
    return Threshold(above, f"at most {rate:.2%} false alarms by {count} good images{where} kept aside in training")
