"""The schedule: features are computed once, first; nothing starves; nothing is lost."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from ltbench.executors.cells import Cell
from ltbench.executors.schedule import RETRY_SECONDS, Schedule, leaders, stages


def _cell(run: str, shares: str = "", images: int = 1) -> Cell:
    return Cell(run, "m", "parts_full", shares=tuple(shares), images=images)


def _runs(cells: list[Cell]) -> list[str]:
    return [cell.run for cell in cells]


def test_the_largest_of_those_that_share_features_runs_first_and_alone() -> None:
    small, large, free, other = _cell("a", "x", 5), _cell("b", "x", 9), _cell("c"), _cell("d", "y")
    schedule = Schedule([small, large, free, other])
    assert leaders([small, large, free, other]) == {"b", "d"}
    assert _runs(schedule.startable(0, 9)) == ["b", "d", "c"]
    schedule.start(large)
    assert _runs(schedule.startable(0, 9)) == ["d", "c"]
    schedule.end(large)
    assert _runs(schedule.startable(0, 9)) == ["d", "a", "c"]
    assert _runs(schedule.startable(0, 2)) == ["d", "a"]


def test_stages_do_each_shared_thing_before_it_is_used() -> None:
    cells = [_cell("a", "x", 5), _cell("b", "xt", 5), _cell("c", "xt", 4), _cell("d"), _cell("e", "xu", 9)]
    found = [(_runs(leading), _runs(others)) for leading, others in stages(cells)]
    assert found == [(["e"], ["d"]), (["b"], ["a"]), ([], ["c"])]


def test_a_cell_that_was_cut_short_is_the_next() -> None:
    schedule = Schedule([_cell("a"), _cell("b")])
    first = schedule.startable(0, 1)[0]
    schedule.start(first)
    schedule.put_back(first)
    assert _runs(schedule.startable(0, 9)) == ["a", "b"]


def test_a_cell_of_another_process_is_looked_at_again_and_its_followers_wait() -> None:
    first, second, free = _cell("a", "x", 2), _cell("b", "x"), _cell("c")
    schedule = Schedule([first, second, free])
    schedule.start(first)
    schedule.postpone(first, now=10)
    assert _runs(schedule.startable(10, 9)) == ["c"]
    assert _runs(schedule.startable(10 + RETRY_SECONDS, 9)) == ["c", "a"]
    schedule.start(first)
    schedule.end(first)
    assert _runs(schedule.startable(20, 9)) == ["b", "c"]


@given(
    st.lists(st.tuples(st.sampled_from(["", "x", "y", "xt", "xu", "yt"]), st.integers(1, 3)), max_size=12), st.randoms()
)
def test_every_cell_ends_once_and_no_shared_work_is_done_twice_at_a_time(
    kinds: list[tuple[str, int]], random: Random
) -> None:
    cells = [_cell(str(number), *kind) for number, kind in enumerate(kinds)]
    schedule, running, ended, done = Schedule(cells), list[Cell](), list[str](), set[str]()
    now = 0.0
    while schedule:
        now += RETRY_SECONDS
        startable = schedule.startable(now, 3)
        assert startable or running
        if startable and (not running or random.random() < 0.5):
            cell = random.choice(startable)
            assert not (set(cell.shares) - done) & {work for other in running for work in other.shares}
            schedule.start(cell)
            running.append(cell)
            continue
        cell = running.pop(random.randrange(len(running)))
        what = random.choice(["end", "end", "put back", "postpone"])
        if what == "end":
            schedule.end(cell)
            ended.append(cell.run)
            done.update(cell.shares)
        elif what == "put back":
            schedule.put_back(cell)
        else:
            schedule.postpone(cell, now)
    assert sorted(ended) == sorted(cell.run for cell in cells)
