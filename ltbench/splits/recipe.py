"""How a split is made, and the name that says so: `mvtec_exp100_reversed_noisy10_disjoint_seed3`.

    <dataset>_<full|exp<beta>|step<beta>|pareto|k<K>>[_reversed][_authors]
        [_noisy<PP>[_softpatch|_open-iad][_disjoint|_selfexcluded]][_seed<N>]

A name holds everything: `parse_name` and `Recipe.name` are inverse of each other, so a split whose file is absent can
be made from its name. The dataset's part may hold underscores. Numbers are written in one way only (`exp100`, not
`exp100.0`; `noisy05`, not `noisy5`), and what is a default is left out (`seed0`, `noisy00`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, Self, cast, get_args

from ltbench.errors import LtbenchError, SpecError, UnknownNameError, suggest
from ltbench.splits.readings import READINGS, Reading, entries_of

Number = int | float
ProfileKind = Literal["full", "exp", "step", "pareto", "k"]
NoiseRule = Literal["tailedcore", "softpatch", "open-iad"]
Draw = Literal["sha256", "authors"]

KINDS: tuple[str, ...] = get_args(ProfileKind)
NOISE_RULES: tuple[NoiseRule, ...] = get_args(NoiseRule)
GRAMMAR = (
    "<dataset>_<full|exp<beta>|step<beta>|pareto|k<K>>[_reversed][_noisy<percent>[_disjoint|_selfexcluded]][_seed<N>]"
)

_SUFFIXES = ("reversed", "authors", "noisy", *READINGS[1:], "seed", *NOISE_RULES[1:])
_NUMBERED = re.compile(r"([a-z]+)([0-9]+(?:\.[0-9]+)?)")
_DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_LONGEST = 200
_SEEDS = 2**32  # numpy's legacy generator takes no larger seed


def plain(number: Number) -> Number:
    """Return an integral number as int, so that 100 and 100.0 are one recipe."""
    return int(number) if math.isfinite(number) and number == int(number) else number


def exact(number: Number) -> Fraction:
    """Return the decimal number that was written: 0.1 is a tenth, not its binary neighbour."""
    return Fraction(Decimal(repr(number)))


def spelled(number: Number) -> str:
    """Return a number in decimal digits, without an exponent."""
    return format(Decimal(repr(number)), "f")


@dataclass(frozen=True, slots=True)
class Profile:
    """How the training images of the categories decline.

    Args:
        kind: "full" keeps all, "exp" declines exponentially, "step" has two levels (LTAD, arXiv:2403.20236);
            "pareto" declines as a Pareto density, "k" keeps K images of the tail (TailedCore, CVPR 2025).
        number: the imbalance (largest over smallest category) of "exp" and "step", K of "k", else None.

    Raises:
        SpecError: a number is missing, superfluous or out of range.
    """

    kind: ProfileKind
    number: Number | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownNameError("split profile", self.kind, KINDS)
        if self.kind in ("full", "pareto"):
            if self.number is not None:
                raise SpecError(f"Expected no number after {self.kind!r}, got {self.number}. Leave it out.")
            return
        what = "a number of tail images" if self.kind == "k" else "an imbalance"
        if self.number is None:
            raise SpecError(f"Expected {what} after {self.kind!r}, got none. Write {self.kind}4 or the like.")
        object.__setattr__(self, "number", plain(self.number))
        if not math.isfinite(self.number) or self.number < 1:
            raise SpecError(f"Expected {what} of 1 or more, got {self.number} in profile {self.kind!r}. Raise it.")
        if self.kind == "k" and not isinstance(self.number, int):
            raise SpecError(f"Expected a whole number of tail images, got {self.number}. Round it.")

    def __str__(self) -> str:
        return self.kind if self.number is None else f"{self.kind}{spelled(self.number)}"

    @property
    def imbalance(self) -> Fraction:
        """The exact number of an "exp" or "step" profile."""
        return exact(cast(Number, self.number))

    @property
    def shots(self) -> int:
        """The K of a "k" profile."""
        return int(cast(Number, self.number))

    @property
    def is_drawn(self) -> bool:
        """Whether the seed, rather than the class order, says which categories are the tail."""
        return self.kind in ("pareto", "k")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the profile that `exp100`, `k4`, `full` ... stand for.

        Raises:
            UnknownNameError: there is no such profile; the message offers the nearest.
            SpecError: its number is missing or out of range.
        """
        numbered = _NUMBERED.fullmatch(text)
        kind, digits = numbered.groups() if numbered else (text, None)
        if kind not in KINDS:
            raise UnknownNameError("split profile", kind, KINDS)
        return cls(cast(ProfileKind, kind), None if digits is None else _read(digits))


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a split is made.

    Args:
        dataset: the dataset's name; it may hold underscores.
        profile: how the training images decline over the categories.
        noise_percent: contaminants in percent of the normal images, 0 to 100.
        noise_rule: how many contaminants each category gets (see `ltbench.splits.noise`).
        reading: what becomes of contaminants in the test set (see `ltbench.splits.readings`).
        reversed_order: whether the class order runs backwards.
        draw: "sha256" is ltbench's own draw; "authors" repeats the random draws of TailedCore's generator.
        seed: seed of every draw.

    Raises:
        SpecError: a value is out of range, or two do not go together.
    """

    dataset: str
    profile: Profile
    noise_percent: Number = 0
    noise_rule: NoiseRule = "tailedcore"
    reading: Reading = "overlap"
    reversed_order: bool = False
    draw: Draw = "sha256"
    seed: int = 0

    def __post_init__(self) -> None:
        check_name(self.dataset, "dataset")
        object.__setattr__(self, "noise_percent", plain(self.noise_percent))
        if not 0 <= self.noise_percent <= 100:
            raise SpecError(f"Expected noise of 0 to 100 percent, got {self.noise_percent}. Mend the name or --noise.")
        if self.noise_rule not in NOISE_RULES:
            raise UnknownNameError("noise rule", self.noise_rule, NOISE_RULES)
        if self.reading not in READINGS:
            raise UnknownNameError("reading of contaminants", self.reading, READINGS)
        if not 0 <= self.seed < _SEEDS:
            raise SpecError(f"Expected a seed from 0 to {_SEEDS - 1}, got {self.seed}. Choose another.")
        self._check_combination()
        check_name(self.name, "split")

    def _check_combination(self) -> None:
        reads = self.reading != READINGS[0]
        if self.noise_percent == 0 and (reads or self.noise_rule != NOISE_RULES[0]):
            what = self.reading if reads else self.noise_rule
            raise SpecError(f"Expected contaminants beside {what!r}, got none. Add _noisy<percent> or --noise.")
        if self.reversed_order and self.profile.is_drawn:
            raise SpecError(f"Expected no 'reversed' beside {self.profile}, whose tail is drawn, got it. Leave it out.")
        if self.draw == "authors" and not (self.profile.is_drawn and self.noise_rule == NOISE_RULES[0]):
            raise SpecError(
                f"Expected profile pareto or k<K> and noise rule tailedcore for the authors' draw, got {self.profile} "
                f"and {self.noise_rule}. Leave 'authors' out."
            )

    @property
    def name(self) -> str:
        """The split's name."""
        parts = [self.dataset, str(self.profile)]
        parts += ["reversed"] * self.reversed_order
        parts += ["authors"] * (self.draw == "authors")
        if self.noise_percent:
            whole, dot, rest = spelled(self.noise_percent).partition(".")
            parts.append(f"noisy{whole:0>2}{dot}{rest}")
            parts += [self.noise_rule] * (self.noise_rule != NOISE_RULES[0])
            parts += [self.reading] * (self.reading != READINGS[0])
        parts += [f"seed{self.seed}"] * (self.seed > 0)
        return "_".join(parts)

    @property
    def noise_ratio(self) -> Fraction:
        """Contaminants a normal image, exactly."""
        return exact(self.noise_percent) / 100

    def payload(self) -> dict[str, Any]:
        """Return the recipe as plain JSON values, for the split's file."""
        payload: dict[str, Any] = {
            "profile": str(self.profile),
            "reversed": self.reversed_order,
            "noise_percent": self.noise_percent,
        }
        if self.noise_percent:
            payload |= {"noise_rule": self.noise_rule, **entries_of(self.reading)}
        if self.draw != "sha256":
            payload["draw"] = self.draw
        return payload


def check_name(name: str, what: str) -> None:
    """Raise `SpecError` unless a name is safe as a file name and as part of a split's name."""
    if not _DATASET.fullmatch(name) or len(name) > _LONGEST:
        raise SpecError(
            f"Expected the name of a {what} of letters, digits, '_', '.' and '-', got {name[:_LONGEST]!r}. "
            "Choose another name."
        )


def parse_name(name: str) -> Recipe:
    """Return the recipe that a split's name stands for.

    Raises:
        SpecError: the name holds a profile or suffix that does not exist (the message offers the nearest), a value is
            out of range, or it is not spelled as `Recipe.name` spells it.
    """
    check_name(name, "split")
    parts = name.split("_")
    seed = _take(parts, "seed")
    reading = next((reading for reading in READINGS[1:] if _take_word(parts, reading)), READINGS[0])
    rule = next((rule for rule in NOISE_RULES if _take_word(parts, rule)), NOISE_RULES[0])
    noise = _take(parts, "noisy")
    authors = _take_word(parts, "authors")
    reversed_order = _take_word(parts, "reversed")
    dataset, profile = "_".join(parts[:-1]), _profile(parts[-1] if parts else "", name)
    if not dataset:
        raise SpecError(f"Expected the name of a split, {GRAMMAR}, got {name!r}. Put the dataset first.")
    recipe = Recipe(
        dataset,
        profile,
        noise_percent=noise or 0,
        noise_rule=rule,
        reading=reading,
        reversed_order=reversed_order,
        draw="authors" if authors else "sha256",
        seed=_whole(seed or 0),
    )
    if recipe.name != name:
        raise SpecError(f"Expected the name of a split, {GRAMMAR}, got {name!r}. Write {recipe.name!r}.")
    return recipe


def is_recipe_name(name: str) -> bool:
    """Return whether a name stands for a recipe, and so is not free for an imported split."""
    try:
        parse_name(name)
    except LtbenchError:
        return False
    return True


def _profile(token: str, name: str) -> Profile:
    numbered = _NUMBERED.fullmatch(token)
    word = numbered[1] if numbered else token
    if word in KINDS:
        return Profile.parse(token)
    raise SpecError(
        f"Expected the name of a split, {GRAMMAR}, got {token!r} in {name!r}. {suggest(word, (*KINDS, *_SUFFIXES))}"
    )


def _read(digits: str) -> Number:
    return float(digits) if "." in digits else int(digits)


def _whole(number: Number) -> int:
    if not isinstance(number, int):
        raise SpecError(f"Expected a whole number as seed, got {number}. Round it.")
    return number


def _take_word(parts: list[str], word: str) -> bool:
    """Remove a word from the end, and return whether it was there."""
    found = bool(parts) and parts[-1] == word
    if found:
        parts.pop()
    return found


def _take(parts: list[str], word: str) -> Number | None:
    """Remove a word with a number from the end, and return the number."""
    numbered = _NUMBERED.fullmatch(parts[-1]) if parts else None
    if numbered is None or numbered[1] != word:
        return None
    parts.pop()
    return _read(numbered[2])
