"""What each who measured has on a board: records of bundles, or of a results folder with imported ones in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from ltbench.errors import DataError
from ltbench.records.record import RunRecord, stream_records
from ltbench.runs.bundles import Origin
from ltbench.runs.exchange import import_bundle, origin_of
from ltbench.runs.verification import verify_run


@dataclass
class Contribution:
    """The runs of one who measured.

    Args:
        by: the name.
        by_run: the runs by hash.
        sources: where they come from, in words.
    """

    by: str
    by_run: dict[str, RunRecord] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)

    @property
    def records(self) -> list[RunRecord]:
        """The runs, in the order of their hashes."""
        return [self.by_run[run] for run in sorted(self.by_run)]

    @property
    def machines(self) -> list[str]:
        """The devices that they ran on, each once."""
        named = (own.environment.get("accelerator") or own.environment.get("processor") for own in self.records)
        return sorted({str(name) for name in named if name})

    def add(self, record: RunRecord, source: str) -> None:
        """Take a run, which may be here already with the same numbers.

        Raises:
            DataError: it is here with other numbers.
        """
        known = self.by_run.setdefault(record.spec.hash, record)
        if known.metrics != record.metrics or dict(known.scores) != dict(record.scores):
            raise DataError(
                f"Expected one measurement of run {record.spec.hash} by {self.by}, got two with other numbers, from "
                f"{' and '.join([*self.sources, source])}. Leave one of them out."
            )
        if source not in self.sources:
            self.sources.append(source)


def contributions(bundles: Iterable[Path], results: Path | None, own: str) -> list[Contribution]:
    """Return the runs of each who measured, by name; every record is checked.

    Args:
        bundles: what `ltbench runs bundle` wrote; they are checked as an import checks them.
        results: a results folder, or None for none.
        own: the name of who measured the runs of the results folder that were not imported.

    Raises:
        DataError: a bundle or record that was edited or is damaged, or two measurements of a run under one name.
    """
    found: dict[str, Contribution] = {}
    for record, origin in _all(bundles, results):
        by = own if origin is None else origin.by
        found.setdefault(by, Contribution(by)).add(record, _told(origin))
    return [found[by] for by in sorted(found)]


def _all(bundles: Iterable[Path], results: Path | None) -> Iterator[tuple[RunRecord, Origin | None]]:
    if results is not None:
        yield from _records(results)
    for bundle in bundles:
        with TemporaryDirectory(prefix="ltbench-board-") as place:
            import_bundle(bundle, Path(place))
            yield from _records(Path(place))


def _records(results: Path) -> Iterator[tuple[RunRecord, Origin | None]]:
    problems: list[str] = []
    for record in stream_records(results, problems):
        verified = verify_run(results, record.spec.hash, None)
        if not verified.ok:
            raise DataError(
                f"Expected whole records in {results}, got run {record.spec.hash}: {verified.faults[0]}. "
                "`ltbench runs verify` says more."
            )
        yield record, origin_of(results, record.spec.hash)
    if problems:
        raise DataError(f"{problems[0]} A board leaves nothing out in silence.")


def _told(origin: Origin | None) -> str:
    if origin is None:
        return "results folder"
    return f"bundle {origin.bundle[:12]}, made {origin.created[:10]} by ltbench {origin.ltbench}"
