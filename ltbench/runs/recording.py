"""From what was found of a split's test images to a record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ltbench.core import RunSpec, Split
from ltbench.method import MethodInfo
from ltbench.records.record import RunRecord
from ltbench.runs.environment import environment
from ltbench.runs.examination import Findings


def record_of(
    spec: RunSpec,
    info: MethodInfo,
    preset: str,
    split: Split,
    found: Findings,
    *,
    seconds: Mapping[str, float],
    memory: Mapping[str, float],
    device: str,
    notes: Mapping[str, Any],
) -> RunRecord:
    """Return the record of a run that has just ended, without its provenance.

    Args:
        spec: what was run.
        info: what the method declares.
        preset: where its hyper-parameters came from.
        split: what it trained and was tested on.
        found: metrics and scores.
        seconds: phase -> seconds.
        memory: phase -> peak MiB.
        device: where it ran.
        notes: what was noted.
    """
    return RunRecord(
        spec=spec,
        method=info,
        preset=preset,
        dataset=split.dataset,
        recipe=split.recipe,
        split_seed=split.seed,
        high=split.high,
        low=split.low,
        counts=split.counts,
        metrics=found.metrics,
        missing=found.missing,
        scores=found.scores,
        seconds={phase: round(own, 3) for phase, own in seconds.items()},
        peak_memory_mib=memory,
        environment=environment(device),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=notes,
    )
