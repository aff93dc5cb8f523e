"""Which cell may start next: of those that share work, such as backbone features, one runs ahead and stores it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ltbench.executors.cells import Cell

RETRY_SECONDS = 1.0
"""Seconds until a cell that another process was doing is looked at again."""


def leaders(cells: Sequence[Cell]) -> set[str]:
    """Return the runs of the largest cell for each thing that cells share: those that do it for the others."""
    largest: dict[str, Cell] = {}
    for cell in cells:
        for work in cell.shares:
            if cell.images > largest.setdefault(work, cell).images:
                largest[work] = cell
    return {cell.run for cell in largest.values()}


class Schedule:
    """Cells that wait, in order.

    Cells that share work would, started together, all do it. So the largest of them goes first, and the others wait
    until it is over; then the work is in the feature store, and they run side by side. What it did not need, each does
    by itself.

    Args:
        cells: what is to be run.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        first = leaders(cells)
        self._waiting = sorted(cells, key=lambda cell: -cell.images if cell.run in first else 1)
        self._running: list[Cell] = []
        self._postponed: dict[str, float] = {}
        self._done: set[str] = set()

    def __bool__(self) -> bool:
        """Whether any cell is unfinished."""
        return bool(self._waiting or self._running)

    @property
    def running(self) -> int:
        """The number of cells that run."""
        return len(self._running)

    def leads(self, cell: Cell) -> bool:
        """Return whether a cell does work that others wait for or would repeat."""
        return not self._done.issuperset(cell.shares)

    def startable(self, now: float, limit: int) -> list[Cell]:
        """Return the cells that could start now, side by side.

        Args:
            now: seconds on the clock that `postpone` is told.
            limit: how many at most.
        """
        busy = {work for cell in self._running for work in cell.shares}
        elsewhere = {cell.run for cell in self._waiting if cell.run in self._postponed}
        busy |= {work for cell in self._waiting if cell.run in elsewhere for work in cell.shares}
        found: list[Cell] = []
        for cell in self._waiting:
            if len(found) == limit:
                break
            if self._postponed.get(cell.run, now) > now:
                continue
            undone = set(cell.shares) - self._done
            if cell.run in elsewhere or not undone & busy:
                found.append(cell)
                busy |= undone
        return found

    def start(self, cell: Cell) -> None:
        """Note that a cell runs."""
        self._waiting.remove(cell)
        self._running.append(cell)
        self._postponed.pop(cell.run, None)

    def end(self, cell: Cell) -> None:
        """Note that a cell is over, well or not."""
        self._running.remove(cell)
        self._done.update(cell.shares)

    def put_back(self, cell: Cell) -> None:
        """Let a cell that was cut short be the next."""
        self._running.remove(cell)
        self._waiting.insert(0, cell)

    def postpone(self, cell: Cell, now: float) -> None:
        """Let a cell that another process is doing wait."""
        self._running.remove(cell)
        self._waiting.append(cell)
        self._postponed[cell.run] = now + RETRY_SECONDS


def stages(cells: Sequence[Cell]) -> Iterator[tuple[list[Cell], list[Cell]]]:
    """Yield cells that can run side by side, each time when the leading ones before are over: (leading, the others)."""
    schedule = Schedule(cells)
    while schedule:
        batch = schedule.startable(0.0, len(cells))
        parts = [cell for cell in batch if schedule.leads(cell)], [cell for cell in batch if not schedule.leads(cell)]
        for cell in batch:
            schedule.start(cell)
            schedule.end(cell)
        yield parts
