"""Read and tabulate many run records of MVTec AD's size: seconds and peak memory.

    python benchmarks/tables.py --records 10000 --folder /tmp/records

The records are written once (about 2.3 GB for 10,000) and found again; remove the folder afterwards. Each stands for
one of 25 methods on one of 40 splits with one of 10 seeds, and holds 1,725 image scores and 7 metrics of 15 categories.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from pathlib import Path

from ltbench.core import RunSpec
from ltbench.method import MethodInfo
from ltbench.protocols import PROTOCOLS
from ltbench.records.record import RunRecord, new_folder, run_folder, stream_records, write_record
from ltbench.tables.cells import METRIC_TITLES
from ltbench.tables.comparison import make_table
from ltbench.tables.measurements import measure

CATEGORIES = tuple(f"category_{number:02d}" for number in range(15))
IMAGES = 115  # of a category


def make(number: int) -> RunRecord:
    rng = random.Random(number)
    method, split, seed = number % 25, number // 25 % 40, number // 1000
    spec = RunSpec(f"m{method}", {"k": method}, f"mvtec_step{10 + split}", f"{split:064x}", PROTOCOLS["common"], seed)
    groups = ("avg", "high", "low", *CATEGORIES)
    return RunRecord(
        spec=spec,
        method=MethodInfo(f"m{method}", f"Method {method}"),
        preset="defaults",
        dataset="mvtec",
        recipe={"profile": "step"},
        split_seed=0,
        high=CATEGORIES[:7],
        low=CATEGORIES[7:],
        counts={category: {"normal": 10, "contaminant": 0} for category in CATEGORIES},
        metrics={metric: {group: rng.random() for group in groups} for metric in METRIC_TITLES},
        missing={},
        scores={
            category: [
                {"path": f"{category}/test/good/{image:03d}.png", "defect_type": "good", "score": rng.random()}
                for image in range(IMAGES)
            ]
            for category in CATEGORIES
        },
        seconds={"fit": 1.0, "predict": 1.0},
        peak_memory_mib={"fit": 1.0},
        environment={f"package_{number}": "1.0" for number in range(20)},
        created="2026-01-01T00:00:00+00:00",
    )


def write(folder: Path, count: int) -> None:
    for number in range(count):
        record = make(number)
        target = run_folder(folder, record.spec)
        if not target.exists():
            with new_folder(target) as temporary:
                write_record(temporary, record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    write(options.folder, options.records)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    problems: list[str] = []
    measured = measure(stream_records(options.folder, problems), ["image_auroc", "pixel_auroc"])
    read = time.perf_counter()
    table = make_table(measured, metrics=["image_auroc", "pixel_auroc"], group="all")
    done = time.perf_counter()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(measured)} records, {len(problems)} unreadable, {len(table.rows)} x {len(table.columns)} cells")
    print(f"read {read - start:.2f} s, tabulate {done - read:.2f} s, together {done - start:.2f} s")
    print(f"peak memory {after:.0f} MiB, of which {after - before:.0f} MiB for this")


if __name__ == "__main__":
    main()
