"""YAML as plain values: twice the same key, endless values and values that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ltbench.contract import registry
from ltbench.contract.parameters import parse_assignments
from ltbench.errors import DataError, SpecError
from ltbench.plain_yaml import LARGEST, _Loader, parse_yaml
from ltbench.sweeps.grid import read_grid
from ltbench.tables.layouts import layouts

TWICE = "a: 1\nb: {c: 1, c: 2}\n"


def test_plain_values_are_read_as_by_yaml() -> None:
    text = "a: &x [1, 2.5, null, true, 2001-01-02, 'é']\nb: *x\nc: {<<: {d: 1, e: 2}, d: 3}\n1: x\n"
    assert parse_yaml(text) == yaml.safe_load(text)
    assert parse_yaml("") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TWICE, "'c' is given twice"),
        ("a: 1\nb: 2\na: 1\n", "'a' is given twice"),
        ("1: x\n1: y", "1 is given twice"),
        ("&a [*a]", "alias of itself"),
        ("a: &a [x, x]\nb: &b [" + ", ".join(["*a"] * 1000) + "]\nc: [" + ", ".join(["*b"] * 1000) + "]", str(LARGEST)),
        ("[" * 5000, "too deep"),
        ("2001-13-45", "month"),
        ("1" * 5000, "4300 digits"),
        ("{[1]: 2}", "unhashable"),
        ("!!python/name:os.system", "constructor"),
        ("a: b: c", "mapping values"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(yaml.YAMLError, match=message):
        parse_yaml(text)


def test_keys_are_not_compared_with_every_other() -> None:
    compared = 0

    class Key(str):
        """A key that counts with how many it is compared."""

        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    class Loader(_Loader):
        """The suite's loader, with keys that count."""

    Loader.add_constructor("!key", lambda loader, node: Key(node.value))
    count = 1000
    text = "\n".join(f"!key k{n}: {n}" for n in range(count))
    assert len(yaml.load(text, Loader)) == count
    assert compared < 10 * count
    with pytest.raises(yaml.YAMLError, match="'k7' is given twice"):
        yaml.load(f"{text}\n!key k7: 1", Loader)


def test_every_reader_of_yaml_refuses_a_key_twice(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(TWICE)
    with pytest.raises(SpecError, match="given twice"):
        read_grid(str(file))
    with pytest.raises(DataError, match="given twice"):
        layouts(file)
    with pytest.raises(SpecError, match="given twice"):
        registry._parsed(file, file.stat().st_mtime_ns)
    with pytest.raises(SpecError, match="not YAML"):
        parse_assignments(["a={b: 1, b: 2}"])


def test_nothing_else_reads_yaml() -> None:
    root = Path(__file__).parents[1]
    files = [*root.glob("ltbench/**/*.py"), *root.glob("methods/**/*.py")]
    found = [file.name for file in files if "yaml.safe_load" in (text := file.read_text()) or "yaml.load(" in text]
    assert found == ["plain_yaml.py"]


@pytest.mark.parametrize("text", ["a=", "a= ", "=1", "a"])
def test_a_parameter_without_a_value_is_an_error(text: str) -> None:
    with pytest.raises(SpecError, match="null for no value"):
        parse_assignments([text])
    with pytest.raises(SpecError, match="got it twice"):
        parse_assignments(["a=1", "a=2"])
