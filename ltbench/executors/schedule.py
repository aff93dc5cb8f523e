"""Which cell may start next: of those that share backbone features, the first runs alone and computes them."""

from __future__ import annotations

from collections.abc import Sequence

from ltbench.executors.cells import Cell

RETRY_SECONDS = 1.0
"""Seconds until a cell that another process was doing is looked at again."""


def leaders(cells: Sequence[Cell]) -> set[str]:
    """Return the runs of the largest cell of each `features`: those that compute features for others."""
    largest: dict[str, Cell] = {}
    for cell in cells:
        if cell.features and cell.images > largest.setdefault(cell.features, cell).images:
            largest[cell.features] = cell
    return {cell.run for cell in largest.values()}


class Schedule:
    """Cells that wait, in order.

    Cells of the same `features` would, started together, all compute the same features. So the largest of them goes
    first and alone; when it is over the features are in the store, and the others run side by side. What it did not
    need, each computes by itself.

    Args:
        cells: what is to be run.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        first = leaders(cells)
        self._waiting = sorted(cells, key=lambda cell: cell.run not in first)
        self._running: list[Cell] = []
        self._postponed: dict[str, float] = {}
        self._warm: set[str] = {""}

    def __bool__(self) -> bool:
        """Whether any cell is unfinished."""
        return bool(self._waiting or self._running)

    @property
    def running(self) -> int:
        """The number of cells that run."""
        return len(self._running)

    def startable(self, now: float, limit: int) -> list[Cell]:
        """Return the cells that could start now, side by side.

        Args:
            now: seconds on the clock that `postpone` is told.
            limit: how many at most.
        """
        led = {cell.features for cell in self._running}
        led |= {cell.features for cell in self._waiting if cell.run in self._postponed}  # by another process
        found: list[Cell] = []
        for cell in self._waiting:
            if len(found) == limit:
                break
            if self._postponed.get(cell.run, now) > now:
                continue
            if cell.features in self._warm or cell.features not in led or cell.run in self._postponed:
                found.append(cell)
                led.add(cell.features)
        return found

    def start(self, cell: Cell) -> None:
        """Note that a cell runs."""
        self._waiting.remove(cell)
        self._running.append(cell)
        self._postponed.pop(cell.run, None)

    def end(self, cell: Cell) -> None:
        """Note that a cell is over, well or not."""
        self._running.remove(cell)
        self._warm.add(cell.features)

    def put_back(self, cell: Cell) -> None:
        """Let a cell that was cut short be the next."""
        self._running.remove(cell)
        self._waiting.insert(0, cell)

    def postpone(self, cell: Cell, now: float) -> None:
        """Let a cell that another process is doing wait."""
        self._running.remove(cell)
        self._waiting.append(cell)
        self._postponed[cell.run] = now + RETRY_SECONDS
