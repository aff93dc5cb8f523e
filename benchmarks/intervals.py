"""What an interval over test images costs: 2,000 bootstrap replicates of AUROC, AP and F1-max, beside a loop.

    python benchmarks/intervals.py --images 115 --replicates 2000

The other side draws the same images and calls scikit-learn for each replicate, as is commonly written.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from turns import median_seconds, print_table

from ltbench.metrics.intervals import bootstrap


def looped(scores: NDArray[np.float64], labels: NDArray[np.bool_], replicates: int) -> NDArray[np.float64]:
    """Return the same replicates by a call for each metric and replicate, (3, R)."""
    rng = np.random.default_rng(0)
    classes = [np.sort(scores[labels]), np.sort(scores[~labels])]
    draws = [rng.multinomial(len(own), np.full(len(own), 1 / len(own)), size=replicates) for own in classes]
    truth = np.repeat([1, 0], [len(own) for own in classes])
    found = []
    for taken in zip(*draws, strict=True):
        drawn = np.concatenate([np.repeat(own, times) for own, times in zip(classes, taken, strict=True)])
        precision, recall, _ = precision_recall_curve(truth, drawn)
        f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
        found.append((roc_auc_score(truth, drawn), average_precision_score(truth, drawn), f1))
    return np.transpose(found)


def main() -> None:
    """Time both sides in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=115, help="test images of a category")
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rng = np.random.default_rng(1)
    labels = np.arange(given.images) % 4 != 0
    scores = rng.normal(1.5 * labels)
    ours = np.array(bootstrap(scores, labels, np.random.default_rng(0), given.replicates))
    print(f"largest difference: {np.abs(ours - looped(scores, labels, given.replicates)).max():.1e}\n")
    sides = {
        "ltbench": lambda: bootstrap(scores, labels, np.random.default_rng(0), given.replicates),
        "a loop over scikit-learn": lambda: looped(scores, labels, given.replicates),
    }
    seconds = median_seconds(sides, given.rounds)
    print_table("", "times ltbench", seconds, lambda measured: measured / seconds["ltbench"])


if __name__ == "__main__":
    main()
