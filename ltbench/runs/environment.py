"""What a run ran on: versions, machine, commit, and the peak memory of a phase."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import ByteSize, TypeAdapter, ValidationError
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ltbench import __version__
from ltbench.errors import SpecError

PACKAGES = (
    *("torch", "timm", "transformers", "faiss-cpu", "faiss-gpu-cu12", "numpy", "scipy", "scikit-learn", "numba"),
    *("pandas", "pillow", "safetensors"),
)


@cache
def installed_version(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment(device: str) -> dict[str, str | int | None]:
    """Return versions, machine, device and git commit as plain values.

    Args:
        device: the torch device of the run.
    """
    versions = {package: installed_version(package) for package in PACKAGES}
    return {
        "ltbench": __version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "device": device,
        "accelerator": _accelerator(device),
    } | {package: found for package, found in versions.items() if found}


def use_threads(count: int) -> None:
    """Let this process compute on so many threads from now on; to be called from the thread that computes."""
    os.environ["OMP_NUM_THREADS"] = str(count)  # read by libraries that are yet to be loaded, and by `usable_cores`
    threadpool_limits(limits=count)  # OpenMP and BLAS of those that are
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def parse_size(text: str, option: str = "--cache-size") -> int:
    """Return a size such as "20GB", "500MiB" or "0" in bytes; `option` is where it was given.

    Raises:
        SpecError: the text is no size.
    """
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise SpecError(f"Expected a size such as 20GB, got {text!r}. Pass {option} 20GB, or 0 for none.") from None


@contextmanager
def peak_memory(into: MutableMapping[str, float], phase: str) -> Iterator[None]:
    """Raise `into[phase]` to the peak resident memory of this process during the block, in MiB.

    Linux can reset its high-water mark, so that each phase gets its own; elsewhere the figure is the peak of the
    process so far.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    try:
        yield
    finally:
        into[phase] = max(into.get(phase, 0.0), round(_peak_mib(), 1))


def resident_memory() -> int:
    """Return the bytes of this process in memory; where the system does not say, its peak so far."""
    kib = _field(Path("/proc/self/status"), "VmRSS:")
    return kib * 1024 if kib is not None else int(_peak_mib() * 2**20)


def available_memory() -> int | None:
    """Return the bytes that the machine could still give, or None where the system does not say."""
    kib = _field(Path("/proc/meminfo"), "MemAvailable:")
    return None if kib is None else kib * 1024


def _field(file: Path, name: str) -> int | None:
    """Return the number behind a name in a file of Linux's /proc, or None."""
    with suppress(OSError):
        for line in file.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return None


def _peak_mib() -> float:
    kib = _field(Path("/proc/self/status"), "VmHWM:")
    if kib is not None:
        return kib / 1024
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


@cache
def _git_commit() -> str | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _accelerator(device: str) -> str | None:
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.get_device_name(device)
