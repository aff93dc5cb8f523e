"""The board: what several have measured, one leaderboard a split and protocol, on one page that needs no network."""

from __future__ import annotations

from collections.abc import Sequence

from ltbench import __version__
from ltbench.errors import SpecError
from ltbench.report.contributions import Contribution
from ltbench.report.leaderboard import leaderboard
from ltbench.report.page import as_script, asset, papers_of, template_environment
from ltbench.tables.published import published_numbers


def make_board(contributions: Sequence[Contribution], title: str = "ltbench board") -> str:
    """Return the board as one HTML page; the same contributions give the same page.

    Args:
        contributions: the runs of each who measured.
        title: the page's heading.

    Raises:
        SpecError: there is no run.
    """
    records = [record for own in contributions for record in own.records]
    if not records:
        raise SpecError("Expected finished runs, got none. Pass bundles of `ltbench runs bundle`, or --results.")
    by_origin = {own.by: own.records for own in contributions}
    return template_environment().get_template("board.html").render(
        title=title,
        version=__version__,
        created=max(record.created for record in records),
        count=len(records),
        methods=len({record.spec.method for record in records}),
        splits=len({record.spec.split for record in records}),
        data=as_script(leaderboard(by_origin, published_numbers())),
        papers=[
            (f"{name}, measured by {own.by}", table)
            for own in contributions
            for name, table in papers_of(own.records, {})
        ],
        contributions=contributions,
        style=asset("report.css"),
        script=asset("report.js"),
    )  # fmt: skip
