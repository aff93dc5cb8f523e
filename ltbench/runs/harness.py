"""Where and how runs take place."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ltbench.blocks.features.store import DiskFeatureStore, default_folder
from ltbench.method import FeatureStore
from ltbench.runs.devices import resolve_device
from ltbench.runs.environment import parse_size
from ltbench.runs.progress import ConsoleProgress


@dataclass
class Harness:
    """Where and how runs take place: everything that does not change their numbers.

    Args:
        results: the results folder.
        device: torch device.
        feature_store: features on disk, or None.
        progress: where progress is shown and seconds are counted.
        force: repeat a run that is finished.
        save_maps: keep the anomaly maps beside the record.
        save_model: keep the fitted method beside the record.
        wait: wait for a run that another process is doing.
        memory_limit: bytes that the process may take, or None.
        eval_every: epochs between two points of a learning curve; 0 for none.
        checkpoint_minutes: minutes between two checkpoints of a training.
        data_root: folder of the datasets, for methods that train on annotated images of another one.
    """

    results: Path
    device: str = "cpu"
    feature_store: FeatureStore | None = None
    progress: ConsoleProgress = field(default_factory=lambda: ConsoleProgress(quiet=True))
    force: bool = False
    save_maps: bool = False
    save_model: bool = False
    wait: bool = True
    memory_limit: int | None = None
    eval_every: int = 0
    checkpoint_minutes: float = 10.0
    data_root: Path | None = None

    @classmethod
    def of(
        cls,
        results: Path,
        device: str,
        cache_size: str,
        *,
        force: bool,
        save_maps: bool,
        quiet: bool,
        memory_limit: str | None = None,
    ) -> Harness:
        """Return the harness that the options of the command line describe.

        Args:
            results: the results folder.
            device: "auto", "cpu", "cuda" or "cuda:N".
            cache_size: bound of the feature store ("20GB"), "0" for none.
            force: repeat a finished run.
            save_maps: keep the anomaly maps.
            quiet: show no progress.
            memory_limit: bound of the memory of the process ("8GB"), "0" or None for none.

        Raises:
            SpecError: a device that is not there, or a size that is none.
        """
        bound = parse_size(cache_size)
        store = DiskFeatureStore(default_folder(), bound) if bound else None
        limit = parse_size(memory_limit, "--memory-limit") or None if memory_limit else None
        progress = ConsoleProgress(quiet=quiet)
        return cls(results, resolve_device(device), store, progress, force, save_maps, memory_limit=limit)
