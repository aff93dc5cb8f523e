"""What captions say: what is bold, and of a paper's layout with other runs in it, of what data its numbers are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ltbench.tables.groups import group_meaning, is_mean
from ltbench.tables.measurements import Measurement
from ltbench.tables.quantities import QUANTITIES, RESOURCES, is_lowest_best
from ltbench.tables.ranking import TEST
from ltbench.tables.settings import contaminants_of, dataset_title, recipe_of


def ranking_caption(significance: bool, metrics: Iterable[str] = ()) -> str:
    """Return what a caption says of bold and underlined cells."""
    if significance:
        taken = "; seconds and memory are ranked as they are" if set(RESOURCES) & set(metrics) else ""
        return f"{TEST}; underlined: the best of the others{taken}"
    return "Best of the measured values bold, second underlined"


def lower_caption(metrics: Iterable[str]) -> str:
    """Return which metrics are better where they are lower, or ""."""
    lower = [QUANTITIES[metric].title for metric in metrics if is_lowest_best(metric)]
    return f"; lower is better: {', '.join(lower)}" if lower else ""


def subject_of(
    metrics: Mapping[str, str], groups: Mapping[str, str], runs: Sequence[Measurement], bases: Sequence[str]
) -> str:
    """Return what the numbers of a table are, made of what is in it: metrics, data sets, contaminants and groups.

    Args:
        metrics: metric id -> heading.
        groups: group -> heading.
        runs: the runs in the table.
        bases: its splits without seed, for those that have no run.
    """
    empty = [base for base in bases if all(found.base != base for found in runs)]
    recipes = [recipe for recipe in map(recipe_of, empty) if recipe is not None]
    names = dict.fromkeys([found.dataset for found in runs] + [recipe.dataset for recipe in recipes])
    noise = dict.fromkeys([found.contaminants for found in runs] + [contaminants_of(recipe) for recipe in recipes])
    what = _listed(
        [
            QUANTITIES[metric].title + (f" ({head})" if head not in ("", QUANTITIES[metric].title) else "")
            for metric, head in metrics.items()
        ]
    )
    means = {group: head for group, head in groups.items() if is_mean(group)}
    over = ["by category"] * (len(means) < len(groups))
    over += [
        f"{head} is the {group_meaning(group)}" if head and len(groups) > 1 else group_meaning(group)
        for group, head in means.items()
    ]
    where = _listed([dataset_title(name) for name in names] or list(bases))
    return f"{what} on {where}{', ' * bool(noise)}{_listed(list(noise))}; {', '.join(over)}."


def _listed(texts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))
