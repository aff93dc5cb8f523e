"""Time and peak memory of TailSampler, beside a plain dense implementation of the same rule and GroupCore's sampler.

    python benchmarks/tail_sampler.py                          # the sizes of the paper, a minute
    python benchmarks/tail_sampler.py --size 100000x320 --repeats 1

Each measurement is a process of its own, since the peak of memory is that of a process: "peak" counts everything,
"of fit" what it grew by while fitting, the embeddings not included. "CPU s" is the median over all threads: it says
more than the wall clock where others use the machine. The dense implementation keeps the similarities and the votes of
all pairs, as the authors' program does; it runs up to 10,000 embeddings.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from tabulate import tabulate

from methods.groupcore import GroupSampler
from methods.tailedcore import TailSampler
from methods.tailedcore.tail_sampler import trimmed_threshold

HEADS = (240, 220, 246, 430, 352, 253)
"""Relative sizes of the head categories: six of MVTec AD's training sets."""

TAILS, SHOTS = 9, 4
"""Nine tail categories of four images, as in the paper's K = 4 splits."""

DENSE_LIMIT = 10_000


@dataclass(frozen=True)
class Row:
    """One measurement: seconds are those of `fit`, MiB are peaks of the process."""

    embeddings: str
    implementation: str
    median_seconds: float
    fastest_seconds: float
    slowest_seconds: float
    cpu_seconds: float
    peak_mib: float
    fit_mib: float
    recall: float
    precision: float


def long_tail(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    """Return n embeddings of six heads and nine tails, the tails last: Gaussian clouds around random centres."""
    rng = np.random.default_rng(seed)
    tail = TAILS * SHOTS
    bounds = np.rint(np.cumsum((0, *HEADS)) / sum(HEADS) * (n - tail)).astype(int)
    sizes = [*np.diff(bounds).tolist(), *[SHOTS] * TAILS]
    E = np.empty((n, d), np.float32)
    start = 0
    for size in sizes:
        centre = rng.standard_normal(d, dtype=np.float32)
        E[start : start + size] = centre + 0.3 * rng.standard_normal((size, d), dtype=np.float32)
        start += size
    return E


def dense_kappa(E: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return kappa with all pairs in memory: float32 similarities, and a vote map with NaN for no vote."""
    X = E / np.linalg.norm(E, axis=1, keepdims=True)
    S = np.clip(X @ X.T, -1, 1)
    np.fill_diagonal(S, 1)
    thresholds = np.array([trimmed_threshold(row, 0.85, quantize=True) for row in S], np.float32)
    member = thresholds[:, None] <= S
    votes = np.where(member, member.sum(axis=1)[:, None], np.nan)
    kappa: NDArray[np.float64] = stats.mode(votes, axis=0, nan_policy="omit").mode
    return kappa


def peak_mib() -> float:
    """Return the peak resident memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def measure(n: int, d: int, implementation: str, repeats: int, block_mib: float) -> Row:
    """Fit `repeats` times, after one small fit that is not counted, and return the median."""
    E = long_tail(n, d)
    kind = GroupSampler if implementation == "groups" else TailSampler
    sampler = kind(block_mib=block_mib).fit(long_tail(200, d))
    before = peak_mib()
    seconds, cpu_seconds = [], []
    for _ in range(repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        if isinstance(sampler, TailSampler) and implementation == "dense":
            sampler.fit_sizes(dense_kappa(E))
        else:
            sampler.fit(E)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    found = int(np.count_nonzero(sampler.tail_indices_ >= n - TAILS * SHOTS))
    return Row(
        f"{n:,} x {d:,}",
        implementation,
        statistics.median(seconds),
        min(seconds),
        max(seconds),
        statistics.median(cpu_seconds),
        peak_mib(),
        peak_mib() - before,
        found / (TAILS * SHOTS),
        found / len(sampler.tail_indices_) if len(sampler.tail_indices_) else math.nan,
    )


def size(text: str) -> tuple[int, int]:
    """Parse "4290x2048"."""
    n, _, d = text.partition("x")
    return int(n), int(d)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and peak memory of TailSampler.")
    parser.add_argument("--size", type=size, action="append", metavar="NxD", help="may be given several times")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of the BLAS")
    parser.add_argument("--block-mib", type=float, default=TailSampler.block_mib)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a Markdown table")
    arguments = parser.parse_args()
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "OMP_NUM_THREADS"):
        os.environ[variable] = str(arguments.threads)  # read by the processes that measure
    rows = []
    for n, d in arguments.size or [(1777, 2048), (4290, 320), (4290, 2048)]:
        for implementation in ["blocked", "groups"] + ["dense"] * (n <= DENSE_LIMIT):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                job = (n, d, implementation, arguments.repeats, arguments.block_mib)
                rows.append(process.submit(measure, *job).result())
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    header = ("embeddings", "", "median s", "fastest", "slowest", "CPU s", "peak MiB", "of fit", "recall", "precision")
    print(tabulate([tuple(asdict(row).values()) for row in rows], header, tablefmt="github", floatfmt=".2f"))


if __name__ == "__main__":
    main()
