"""What a run lacks on this machine, all of it at once, and the command that works without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ltbench.contract.registry import presets
from ltbench.datasets import shapes
from ltbench.datasets.index import locate
from ltbench.errors import AbsentError, LtbenchError
from ltbench.method import ChecksInputs, Method
from ltbench.runs.provenance import BACKBONE, MODEL

OFFLINE = "offline"
"""The preset that takes packaged weights."""


def all_that_lacks(
    error: AbsentError, method: type[Method], values: Mapping[str, Any], data_root: Path | None
) -> AbsentError:
    """Return an error on absent images that names what else the run would lack, and what works now.

    Args:
        error: on the images.
        method: the method's class.
        values: its hyper-parameters.
        data_root: the folder of datasets, or None.
    """
    return AbsentError(" ".join((str(error), *_others(method, values, data_root), *works_now(method))))


def works_now(method: type[Method]) -> tuple[str, ...]:
    """Return a sentence with the command that needs nothing but what pip installs, or nothing where none does."""
    if method.info.uses_annotated_data:  # of another dataset than the tested one, and one alone is drawn
        return ()
    preset = f" --preset {OFFLINE}" if OFFLINE in presets(method) else ""
    command = f"ltbench run --method {method.info.name} --split {shapes.SOURCE.name}_step20{preset}"
    return (f"This works now, on drawn images: `{command}`.",)


def absent_weights(values: Mapping[str, Any]) -> str | None:
    """Return the name of the pretrained network that hyper-parameters ask for and this machine lacks, or None."""
    name, weights = values.get(BACKBONE), values.get("weights", "")
    if isinstance(name, str) and isinstance(weights, str):
        from ltbench.blocks.features.packaged_vit import PACKAGED, named_file
        from ltbench.blocks.features.weights import PRETRAINED

        return name if weights in (PRETRAINED, PACKAGED) and named_file(name, weights) is None else None
    model = values.get(MODEL)
    if isinstance(model, str) and not weights:
        from ltbench.blocks.vision_language.clip_weights import TINY as TINY_CLIP
        from ltbench.blocks.vision_language.files import named_files
        from ltbench.blocks.vision_language.loading import TINY

        is_here = model in (TINY, TINY_CLIP) or Path(model).is_dir() or bool(named_files(model))
        return None if is_here else model
    return None


def _others(method: type[Method], values: Mapping[str, Any], data_root: Path | None) -> Iterator[str]:
    auxiliary = values.get("auxiliary")
    if method.info.uses_annotated_data and isinstance(auxiliary, str) and auxiliary:
        try:
            locate(auxiliary, data_root)
        except LtbenchError as error:
            yield f"It also trains on another dataset: {error}"
    made = method(**values)
    if isinstance(made, ChecksInputs):
        try:
            made.check_inputs()
        except LtbenchError as error:
            yield f"{error}"
    if (network := absent_weights(values)) is not None:
        yield (
            f"The weights of {network} are not on this machine either: the run fetches them from the hub where it can "
            f"be reached; elsewhere take --preset {OFFLINE}, or give a file."
        )
