"""YAML as plain values: a key that is given twice, and what would grow without end, is refused."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

LARGEST = 100_000
"""Values that a text may stand for, those that it repeats by aliases counted each time."""


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text.

    Raises:
        yaml.YAMLError: it is none, gives a key twice, or stands for more than `LARGEST` values.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (ValueError, OverflowError) as error:  # a date of month 13, a number of five thousand digits
        raise yaml.YAMLError(str(error)) from error
    except RecursionError as error:
        raise yaml.YAMLError("lists or mappings nested too deep, or an alias of itself") from error


class _Loader(yaml.SafeLoader):
    """yaml's safe loader, which takes the last of two equal keys without a word."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        _count(node, LARGEST)
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        merged = [key for key, _ in node.value if key.tag == "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key not in merged]
        seen = set[Hashable]()
        for key in (key for key in keys if isinstance(key, Hashable)):
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _count(node: Any, left: int) -> int:
    """Return how many more values there may be after those of a node."""
    left -= 1
    if left < 0:
        raise yaml.YAMLError(f"more than {LARGEST} values, or an alias of itself")
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            for part in pair:
                left = _count(part, left)
    elif isinstance(node, yaml.SequenceNode):
        for part in node.value:
            left = _count(part, left)
    return left
