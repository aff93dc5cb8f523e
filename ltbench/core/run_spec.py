"""What is run: enough to run it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ltbench.core.identity import sha256_of
from ltbench.core.protocol import Protocol


@dataclass(frozen=True)
class RunSpec:
    """What is run: enough to run it again. `hash` names the run.

    Args:
        method: the method's registry name.
        parameters: every hyper-parameter, resolved, as plain JSON values.
        split: the split's name.
        split_sha256: the split's identity.
        protocol: how images become numbers.
        seed: the seed of the method.
    """

    method: str
    parameters: Mapping[str, Any]
    split: str
    split_sha256: str
    protocol: Protocol
    seed: int = 0

    def payload(self) -> dict[str, Any]:
        """Return the specification as plain JSON values."""
        return {
            "method": self.method,
            "parameters": dict(self.parameters),
            "split": self.split,
            "split_sha256": self.split_sha256,
            "protocol": self.protocol.payload(),
            "seed": self.seed,
        }

    @cached_property
    def hash(self) -> str:
        """The name of the run: 16 hexadecimal digits of the sha256 of the specification."""
        return sha256_of(self.payload())[:16]
