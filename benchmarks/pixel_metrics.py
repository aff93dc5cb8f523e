"""Time the exact pixel metrics beside scikit-learn and a 200-threshold PRO loop, on the same maps in one run.

    python benchmarks/pixel_metrics.py

Both sides take turns, so that a busy machine slows both alike; seconds are medians. Memory is the peak of what is
allocated beside the maps and masks (tracemalloc, in a call of its own). The maps are smooth noise with raised defects,
drawn from a fixed seed.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve
from turns import median_seconds, print_table

from ltbench.metrics import PixelMetrics, pixel_metrics
from ltbench.metrics.radix import ascending
from ltbench.metrics.ranking import numpy_is_slow
from ltbench.metrics.region import region_pixels

Maps = NDArray[np.float32]
Masks = NDArray[np.bool_]
LIMIT = 0.3


def draw(images: int, size: int, seed: int) -> tuple[Maps, Masks]:
    """Return maps and masks: two images in three have one to three defects of up to a quarter of the side."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((images, size, size), np.bool_)
    for mask in masks[: 2 * images // 3]:
        for _ in range(rng.integers(1, 4)):
            height, width = rng.integers(size // 32, size // 4, size=2)
            y, x = rng.integers(0, size - height), rng.integers(0, size - width)
            mask[y : y + height, x : x + width] = True
    maps = np.empty(masks.shape, np.float32)
    for one, mask in zip(maps, masks, strict=True):
        noise = rng.standard_normal((size, size), np.float32) + np.float32(0.25) * mask
        one[:] = ndimage.gaussian_filter(noise, size / 64)
    return maps, masks


def scikit_learn_three(maps: Maps, masks: Masks) -> tuple[float, float, float]:
    """Return scikit-learn's AUROC, AP and the best F1 of its precision-recall curve."""
    scores, labels = maps.ravel(), masks.ravel()
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return float(roc_auc_score(labels, scores)), float(average_precision_score(labels, scores)), float(f1.max())


def pro_loop(maps: Maps, masks: Masks, thresholds: int = 200) -> float:
    """Return the AUPRO of equally spaced thresholds.

    The regions are found once; public code finds them again at each threshold, which takes longer still.
    """
    regions = [
        (one.image, *(axis[one.region == k] for axis in np.nonzero(masks[one.image])))
        for one in region_pixels(masks)
        for k in range(len(one.area))
    ]
    normal = ~masks
    fpr, pro = [0.0], [0.0]
    for threshold in np.linspace(maps.max(), maps.min(), thresholds):
        found = maps >= threshold
        fpr.append(float((found & normal).sum() / normal.sum()))
        pro.append(float(np.mean([found[image, y, x].mean() for image, y, x in regions])))
    inside = np.array(fpr) <= LIMIT
    x, y = np.append(np.array(fpr)[inside], LIMIT), np.append(np.array(pro)[inside], np.interp(LIMIT, fpr, pro))
    return float(np.trapezoid(y, x)) / LIMIT


def scikit_learn_aupro(maps: Maps, masks: Masks) -> float:
    """Return the exact AUPRO by scikit-learn: the ROC curve in which a defect pixel weighs 1 / area of its region.

    Not timed: it only proves the exact value, which the loop approximates.
    """
    weights = np.ones(maps.shape)
    for one in region_pixels(masks):
        weights[one.image][masks[one.image]] = 1 / one.area[one.region]
    fpr, pro, _ = roc_curve(masks.ravel(), maps.ravel(), sample_weight=weights.ravel(), drop_intermediate=False)
    inside = fpr <= LIMIT
    x, y = np.append(fpr[inside], LIMIT), np.append(pro[inside], np.interp(LIMIT, fpr, pro))
    return float(np.trapezoid(y, x)) / LIMIT


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def peak_bytes(function: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def compare(maps: Maps, masks: Masks, repeats: int) -> str:
    """Return a Markdown table of both sides, and the differences."""
    sides: dict[str, Callable[[], Any]] = {
        "ltbench, all four, exact": lambda: pixel_metrics(maps, masks),
        "scikit-learn AUROC + AP + F1": lambda: scikit_learn_three(maps, masks),
        "200-threshold PRO loop": lambda: pro_loop(maps, masks),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    results: dict[str, Any] = {}
    for _ in range(repeats):
        for name, function in sides.items():
            taken, results[name] = timed(function)
            seconds[name].append(taken)
    ours, three, loop = (statistics.median(seconds[name]) for name in sides)
    memory, three_memory, loop_memory = (peak_bytes(function) / maps.nbytes for function in sides.values())
    exact, (auroc, ap, f1), approximate = results.values()
    reference = PixelMetrics(auroc, ap, f1, scikit_learn_aupro(maps, masks))
    difference = max(abs(a - b) for a, b in zip(exact, reference, strict=True))
    rows = [
        ("ltbench, all four, exact", ours, memory),
        ("scikit-learn AUROC + AP + F1", three, three_memory),
        ("200-threshold PRO loop", loop, loop_memory),
        ("scikit-learn + PRO loop", three + loop, max(three_memory, loop_memory)),
    ]
    lines = ["| | seconds | times ltbench | peak memory / maps |", "|---|---:|---:|---:|"]
    lines += [f"| {name} | {taken:.3f} | {taken / ours:.1f} | {peak:.2f} |" for name, taken, peak in rows]
    return "\n".join(
        [
            *lines,
            "",
            f"Largest difference to scikit-learn (AUPRO by its weighted ROC curve): {difference:.1e}",
            f"AUPRO exact {exact.aupro:.6f}, by 200 thresholds {approximate:.6f}",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--images", type=int, default=115, help="number of maps (default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="side of a map in pixels (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the maps (default: %(default)s)")
    options = parser.parse_args()
    if min(options.images, options.repeats) < 2 or options.size < 64:
        parser.error("expected at least 2 images, 2 repeats and a size of 64")
    maps, masks = draw(options.images, options.size, options.seed)
    print(f"{options.images} maps of {options.size}x{options.size}, {masks.mean():.1%} defect pixels, ", end="")
    print(f"medians of {options.repeats} runs, numpy {np.__version__}\n")
    print(compare(maps, masks, options.repeats))
    print(f"\nNumPy sorts {'slowly' if numpy_is_slow() else 'fast'} here; the normal pixels, taken out and sorted:\n")
    sorts = {"by NumPy": lambda: np.sort(maps[~masks]), "by radix": lambda: ascending(maps, masks, wanted=False)}
    seconds = median_seconds(sorts, options.repeats)
    print_table("", "times NumPy's", seconds, lambda taken: taken / seconds["by NumPy"])


if __name__ == "__main__":
    main()
