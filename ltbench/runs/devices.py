"""The device of a run: which it is, whether it can serve, and what to do when it fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ltbench.errors import LtbenchError, SpecError
from ltbench.runs.environment import installed_version

if TYPE_CHECKING:
    from types import ModuleType

FAISS_BUILDS = ("faiss-cpu", "faiss-gpu-cu12", "faiss-gpu-cu11", "faiss-gpu")
"""Distributions that install the module `faiss`: of several, the one written last wins, in part."""


def resolve_device(name: str) -> str:
    """Return "auto" as the best device there is, and check that a named one is there and can serve.

    A warning says why a CUDA device that is there cannot serve as "auto".

    Raises:
        SpecError: another name, a CUDA device that torch does not see or cannot use, or two builds of FAISS beside it.
    """
    if name == "cpu":
        return name
    import torch

    kind, _, index = name.partition(":")
    if name != "auto" and (kind != "cuda" or (index and not index.isdigit())):
        raise SpecError(f"Expected device auto, cpu, cuda or cuda:N, got {name!r}. Pass --device auto.")
    count, told = _cuda_devices(torch)
    if name == "auto" and not count:
        if told:
            warnings.warn(f"running on the CPU: {told}", stacklevel=2)
        return "cpu"
    if int(index or 0) >= count:
        why = f" ({told})" if told else ""
        remedy = f"Update the driver to one for CUDA {torch.version.cuda}, or pass" if "driver" in told else "Pass"
        raise SpecError(f"Expected {name}, got {count} CUDA devices{why}. {remedy} --device cpu.")
    check_faiss()
    return "cuda" if name == "auto" else name


def check_faiss() -> None:
    """Raise SpecError if several builds of FAISS are installed, which overwrite each other's files."""
    builds = [build for build in FAISS_BUILDS if installed_version(build)]
    if len(builds) > 1:
        raise SpecError(
            f"Expected one build of FAISS, got {' and '.join(builds)}, which overwrite each other. Run "
            f"pip uninstall -y {' '.join(builds)} && pip install faiss-cpu."
        )


def check_precision(device: str, parameters: Mapping[str, Any]) -> None:
    """Raise SpecError if a device cannot compute in the backbone's precision, where a method has one."""
    if (precision := parameters.get("backbone_precision", "float32")) != "float32":
        from ltbench.blocks.device import check_device

        check_device(device, precision)


@contextmanager
def device_faults(device: str, phase: Callable[[], str]) -> Iterator[None]:
    """Turn what a CUDA device refuses inside the block into one line with the remedy.

    Args:
        device: of the run.
        phase: says what is going on.

    Raises:
        LtbenchError: no memory left on the device, or a device that failed or is gone. The run can be repeated.
    """
    if not device.startswith("cuda"):
        yield
        return
    import torch

    from ltbench.blocks.device import VARIABLE

    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).partition(". ")[0]
        raise LtbenchError(
            f"Expected room on {device} for {phase() or 'the run'}, got none ({reason}). Lower {VARIABLE}, or "
            "batch_size if it is a training, or pass --device cpu, and repeat the command."
        ) from error
    except RuntimeError as error:
        if not is_device_fault(error):
            raise
        reason = str(error).partition("\n")[0]
        raise LtbenchError(
            f"Expected {device} to answer during {phase() or 'the run'}, got {reason!r}. Look at nvidia-smi, then "
            "repeat the command, which goes on, or pass --device cpu."
        ) from error


def is_device_fault(error: RuntimeError) -> bool:
    """Return whether an error is CUDA's or one of its libraries', and no defect of a program."""
    text = str(error)
    return type(error).__name__ == "AcceleratorError" or text.startswith(("CUDA error", "cuDNN error", "CUDNN_STATUS"))


def _cuda_devices(torch: ModuleType) -> tuple[int, str]:
    """Return how many CUDA devices torch can use, and what it says of those that it cannot."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count = int(torch.cuda.device_count()) if torch.cuda.is_available() else 0
    told = " ".join(str(caught[-1].message).split()) if caught else ""
    return count, told.partition(". ")[0]
