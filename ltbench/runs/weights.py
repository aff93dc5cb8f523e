"""Whether the pretrained weights that methods name are on this machine, and are the known ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ltbench.atomic import write_whole
from ltbench.blocks.features.known import fingerprint, known_fingerprints, render_fingerprints
from ltbench.blocks.features.packaged_vit import named_file
from ltbench.blocks.features.weights import PRETRAINED, RANDOM
from ltbench.contract.parameters import resolve
from ltbench.contract.registry import method_class, method_names, presets
from ltbench.datasets.cache import cache_folder
from ltbench.errors import LtbenchError

State = Literal["known", "noted", "differs", "absent", "unusable"]


@dataclass(frozen=True, slots=True)
class WeightsFinding:
    """What was found of the weights of one backbone.

    Args:
        backbone: timm's name.
        weights: as hyper-parameters have it.
        state: "known" equal what a table says, "noted" were seen for the first time and are in the user's table now,
            "differs" are others than that, "absent" are not on this machine, "unusable" cannot be read.
        text: what else there is to say.
    """

    backbone: str
    weights: str
    state: State
    text: str


def users_table() -> Path:
    """Return where the fingerprints lie that this user's machine has seen."""
    return cache_folder() / "known_weights.json"


def named_backbones() -> list[tuple[str, str]]:
    """Return every backbone and its weights that a method's defaults or presets name, sorted; methods are imported."""
    found = set()
    for name in method_names():
        cls = method_class(name)
        for parameters in ({}, *(preset.parameters for preset in presets(cls).values())):
            values = resolve(cls, parameters)
            backbone, weights = values.get("backbone"), values.get("weights", PRETRAINED)
            if isinstance(backbone, str) and backbone and weights != RANDOM:
                found.add((backbone, str(weights)))
    return sorted(found)


def check_weights() -> Iterator[WeightsFinding]:
    """Yield a finding for each backbone that methods name; what is seen first is noted in the user's table.

    Raises:
        DataError: the user's table cannot be read.
    """
    own, users = known_fingerprints(), known_fingerprints(users_table())
    for key in named_backbones():
        if named_file(*key) is None:
            yield WeightsFinding(*key, "absent", "not on this machine")
            continue
        try:
            found = fingerprint(*key)
        except LtbenchError as error:
            yield WeightsFinding(*key, "unusable", str(error))
            continue
        expected = own.get(key) or users.get(key)
        if expected is None:
            users[key] = found
            write_whole(users_table(), render_fingerprints(users).encode("ascii"))
            yield WeightsFinding(*key, "noted", f"weights {found.weights_sha256[:12]}, noted for the next look")
        elif differs := expected.differs(found):
            yield WeightsFinding(*key, "differs", differs)
        else:
            yield WeightsFinding(*key, "known", f"weights {found.weights_sha256[:12]}")
