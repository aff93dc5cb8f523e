"""The nouns of ltbench as frozen dataclasses that check themselves.

`Sample` and `Dataset` say what lies on disk, `Split` which of it trains and tests, `Protocol` how an image becomes a
number, `Prediction` what a method returned, and `RunSpec` what was run. See docs/architecture.md.
"""

from ltbench.core.dataset import GOOD, Dataset, Sample
from ltbench.core.identity import canonical_json, check_relative, sha256_of
from ltbench.core.prediction import Metrics, Prediction
from ltbench.core.protocol import Protocol
from ltbench.core.run_spec import RunSpec
from ltbench.core.split import GROUPS, Split, TrainImages, imbalance_of

__all__ = [
    "GOOD",
    "GROUPS",
    "Dataset",
    "Metrics",
    "Prediction",
    "Protocol",
    "RunSpec",
    "Sample",
    "Split",
    "TrainImages",
    "canonical_json",
    "check_relative",
    "imbalance_of",
    "sha256_of",
]
