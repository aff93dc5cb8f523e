"""Which categories of a list are High and which Low: by LTAD's halves, or by TailedCore's 20 images."""

from __future__ import annotations

import re
from typing import Literal, get_args

from ltbench.splits.profiles import Counts, groups_by_size, halves

GroupRule = Literal["auto", "halves", "tail20"]
GROUP_RULES: tuple[GroupRule, ...] = get_args(GroupRule)
"""`halves`: the larger half of the categories is high; `tail20`: those with 20 images; `auto`: by the list's name."""


def rule_of(*names: str) -> GroupRule:
    """Return the rule of a list by its names: `halves` where one says `exp<beta>` or `step<beta>`, else `tail20`.

    TailedCore's step lists are called `step_k4`, which holds no imbalance.
    """
    is_ltad = any(re.search(r"(exp|step)[_-]?\d", name.lower()) for name in names)
    return "halves" if is_ltad else "tail20"


def groups_of(counts: Counts, rule: GroupRule, auto: GroupRule) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the high and the low categories, in class order.

    Args:
        counts: category -> normal training images, in class order.
        rule: which rule.
        auto: the rule that "auto" stands for.
    """
    if (auto if rule == "auto" else rule) == "tail20":
        return groups_by_size(counts)
    high, _ = halves(sorted(counts, key=lambda category: -counts[category]))  # stable: class order breaks ties
    return tuple(c for c in counts if c in high), tuple(c for c in counts if c not in high)
