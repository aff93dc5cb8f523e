"""A worker process: reads tasks from standard input, one JSON line each, and answers each with a report.

It imports what is heavy once and runs many cells. Whatever else is printed goes to standard error, so that answers stay
clean. When its parent is gone the input ends, and so does the worker, after the cell at hand.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from types import FrameType

from pydantic import TypeAdapter

READY = "ready"


def main() -> None:
    """Serve tasks until the input ends."""
    faulthandler.enable()
    signal.signal(signal.SIGTERM, _stop)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from ltbench.executors.cells import Cell, Settings, run_cell
    from ltbench.runs.environment import use_threads

    @dataclass(frozen=True)
    class Task:
        cell: Cell
        settings: Settings
        threads: int

    task_of = TypeAdapter(Task)
    print(READY, file=answers, flush=True)
    for line in sys.stdin:
        task = task_of.validate_json(line)
        use_threads(task.threads)
        print(json.dumps(asdict(run_cell(task.cell, task.settings))), file=answers, flush=True)


def _stop(number: int, frame: FrameType | None) -> None:
    """End as after an exception, so that what is half-written goes."""
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
