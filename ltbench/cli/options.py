"""Options that several commands share, and what completes their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", envvar="LTBENCH_DATA", help="Folder that holds the datasets, or one dataset."),
]
Results = Annotated[Path, typer.Option("--results", envvar="LTBENCH_RESULTS", help="Folder of run records.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

DEFAULT_RESULTS = Path("results")


def complete_methods(incomplete: str) -> list[str]:
    """Return the method names that begin with what was typed."""
    from ltbench.contract.registry import method_names

    return [name for name in method_names() if name.startswith(incomplete)]


def complete_splits(incomplete: str) -> list[str]:
    """Return the names of the papers' splits, and of those in the folders of splits, that begin with what was typed."""
    from ltbench.splits.files import committed_names

    return [name for name in committed_names() if name.startswith(incomplete)]


def complete_presets(context: typer.Context, incomplete: str) -> list[str]:
    """Return the presets of the method named before that begin with what was typed."""
    from ltbench.contract.registry import preset_names

    name = context.params.get("method")
    return [preset for preset in preset_names(name) if preset.startswith(incomplete)] if name else []


Method = Annotated[str, typer.Option("--method", "-m", help="Method name.", autocompletion=complete_methods)]
Split = Annotated[str, typer.Option("--split", "-s", help="Split name or file.", autocompletion=complete_splits)]
Splits = Annotated[
    list[str] | None,
    typer.Option("--split", "-s", help="Only this split; repeat for more.", autocompletion=complete_splits),
]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", "-m", help="Only this method; repeat for more.", autocompletion=complete_methods),
]
Run = Annotated[str, typer.Option("--run", "-r", help="Folder of a run, or the first digits of its hash.")]
Protocol = Annotated[
    str | None,
    typer.Option(
        help="common, ltad, tailedcore, dinomaly, rlr, winclip, anomalyclip or anomalygpt; "
        "with +positive_masks, +half_masks, +depth12 if files need it, +defective_pixels for MKD's pixel AUROC."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
CacheSize = Annotated[str, typer.Option(help="Bound of the feature store; 0 does without it.")]
SaveMaps = Annotated[bool, typer.Option("--save-maps", help="Keep the anomaly maps.")]
MethodName = Annotated[str, typer.Argument(help="Method name.", autocompletion=complete_methods)]
