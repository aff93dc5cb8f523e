"""The anomalib side of `patchcore_anomalib.py`: its PatchCore Engine on one category. Runs in anomalib's environment.

The greedy coreset of anomalib takes most of the time, the same for each pick; `--picks` are timed and the rest
is extrapolated. Everything else runs whole. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from anomalib.models import Patchcore
from anomalib.models.components.sampling.k_center_greedy import KCenterGreedy


class TimedCoreset:
    """Replaces the greedy loop by its first picks, timed; the other rows of the coreset are taken in order."""

    def __init__(self, picks: int) -> None:
        self.picks = picks
        self.seconds_timed = 0.0
        self.seconds_extrapolated = 0.0

    def __call__(self, sampler: KCenterGreedy) -> list[int]:
        sampler.model.fit(sampler.embedding)
        sampler.features = sampler.model.transform(sampler.embedding)
        sampler.reset_distances()
        index = torch.zeros((), dtype=torch.long)
        start = time.perf_counter()
        for _ in range(self.picks):
            sampler.update_distances(cluster_center=index)
            index = sampler.get_new_idx()
            sampler.min_distances.scatter_(0, index.unsqueeze(0).unsqueeze(1), 0.0)
        self.seconds_timed = time.perf_counter() - start
        self.seconds_extrapolated = self.seconds_timed / self.picks * sampler.coreset_size
        return list(range(sampler.coreset_size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--category", type=Path, required=True, help="category folder in MVTec layout")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--picks", type=int, default=100, help="picks of the coreset that are timed")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)

    coreset = TimedCoreset(arguments.picks)
    KCenterGreedy.select_coreset_idxs = lambda self: coreset(self)  # noqa: PLW0108 - it must bind self
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        _run(arguments.category, arguments.backbone, Path(scratch))
        total = time.perf_counter() - start
    seconds = total - coreset.seconds_timed + coreset.seconds_extrapolated
    print(json.dumps({"seconds": seconds, "measured": total, "coreset_extrapolated": coreset.seconds_extrapolated}))


def _run(category: Path, backbone: str, scratch: Path) -> Any:
    defects = sorted(path.name for path in (category / "test").iterdir() if path.name != "good")
    data = Folder(
        name=category.name,
        root=category,
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir=[f"test/{defect}" for defect in defects],
        mask_dir=[f"ground_truth/{defect}" for defect in defects],
        num_workers=0,
    )
    model = Patchcore(
        backbone=backbone,
        layers=["layer2", "layer3"],
        coreset_sampling_ratio=0.1,
        pre_trained=False,
        pre_processor=Patchcore.configure_pre_processor(image_size=(256, 256)),
        visualizer=False,
    )
    engine = Engine(accelerator="cpu", devices=1, default_root_dir=scratch, logger=False, enable_progress_bar=False)
    engine.fit(model=model, datamodule=data)
    return engine.test(model=model, datamodule=data)


if __name__ == "__main__":
    main()
