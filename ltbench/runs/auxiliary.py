"""The annotated dataset that a method with the privilege `uses_annotated_data` trains on: found, refused, lent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ltbench.core import Dataset, Split, sha256_of
from ltbench.datasets.annotated import AnnotatedDiskImages, check_annotated
from ltbench.datasets.index import load_dataset
from ltbench.errors import NotApplicableError, SpecError
from ltbench.runs.examination import shuffled
from ltbench.runs.planning import Plan, auxiliary_of
from ltbench.runs.provenance import AUXILIARY, Digests, split_digests


def auxiliary_dataset(planned: Plan, data_root: Path | None) -> Dataset | None:
    """Return the annotated dataset of a plan, or None where its method uses none.

    Raises:
        DataError: it is not found, or has a defect without a mask.
        SpecError: the method uses one and no name is given.
    """
    name = auxiliary_of(planned)
    if name is None:
        return None
    dataset = load_dataset(name, data_root)
    check_annotated(dataset)
    return dataset


def run_digests(split: Split, dataset: Dataset, auxiliary: Dataset | None) -> Digests:
    """Return the digests of all files of a run, and refuse annotated images that are tested, whatever their names.

    Raises:
        NotApplicableError: an annotated image is one of the test images.
    """
    digests = split_digests(split, dataset, auxiliary)
    if auxiliary is not None:
        tested = {digests[path]: path for paths in split.test.values() for path in paths if path in digests}
        for sample in auxiliary.test:
            if (same := tested.get(digests[f"{AUXILIARY}/{auxiliary.name}/{sample.path}"])) is not None:
                raise NotApplicableError(
                    f"{auxiliary.name} has images of {split.dataset}: {sample.path} is its test image {same}, and a "
                    "method may not train on the annotated images that it is tested on"
                )
    return digests


def lent(
    auxiliary: Dataset | None, planned: Plan, digests: Digests
) -> tuple[AnnotatedDiskImages | None, dict[str, Any]]:
    """Return what the runtime lends of an annotated dataset, and what the record notes of it."""
    if auxiliary is None:
        return None, {}
    images = AnnotatedDiskImages(auxiliary, shuffled(sample.path for sample in auxiliary.test), planned.spec.protocol)
    start = f"{AUXILIARY}/{auxiliary.name}/"
    files = {path: digest for path, digest in digests.items() if path.startswith(start)}
    if not files:
        raise SpecError(f"Expected digests of {auxiliary.name}, got none. Run it again.")
    note = {
        "dataset": auxiliary.name,
        "images": len(images),
        "defective": sum(images.labels),
        "sha256": sha256_of(files),
    }
    return images, {"auxiliary": note}
