"""Print the scores of images."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ltbench.apply.scoring import Applied, Scorer, rows_of
from ltbench.atomic import write_output
from ltbench.console.output import print_json, tell, write
from ltbench.foreign import inert

SCORES = "scores.csv"


def print_applied(applied: Applied, scorer: Scorer, out: Path | None, as_json: bool) -> None:
    """Write the scores to `<out>/scores.csv`, or print them as csv or JSON; what else there is to say goes to stderr.

    Raises:
        DataError: the file cannot be written.
    """
    rows = rows_of(applied, scorer.threshold)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: inert(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows
    )
    if out is not None:
        write_output(out / SCORES, text.getvalue().encode())
    if as_json:
        print_json(_summary(applied, scorer, out) | {"images": rows})
    elif out is None:
        write(text.getvalue())
    _tell(applied, scorer, out)


def _summary(applied: Applied, scorer: Scorer, out: Path | None) -> dict[str, object]:
    threshold = scorer.threshold
    return {
        "model": str(scorer.model.folder),
        "run": scorer.model.run,
        "threshold": threshold.value if threshold else None,
        "rule": threshold.rule if threshold else None,
        "out": str(out) if out is not None else None,
        "seconds": round(applied.seconds, 3),
        "first_seconds": round(applied.first_seconds, 3),
        "passed_over": [{"path": str(odd.file), "reason": odd.reason} for odd in applied.odd],
    }


def _tell(applied: Applied, scorer: Scorer, out: Path | None) -> None:
    for odd in applied.odd:
        tell(f"passed over {odd.file}: {odd.reason}")
    count, threshold = len(applied.scored), scorer.threshold
    said = [f"{count} images in {applied.seconds:.1f} s ({count / max(applied.seconds, 1e-9):.1f} a second)"]
    if threshold is None:
        said.append("no decisions without --threshold")
    else:
        defective = sum(one.decision == "defective" for one in applied.scored)
        said.append(f"{defective} defective at {threshold.value:.6g} or above ({threshold.rule})")
    if out is not None:
        said.append(str(out / SCORES))
    tell("; ".join(said))
