"""Hyper-parameters of every method that reads features: annotated types for a method's fields.

A method says `backbone: Backbone = "..."`, with a default of its own. What it adds around a type wins over what the
type says: `layers: Annotated[Layers, Probe((1, 2))] = (1, 2, 3)`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ltbench.blocks.switches import Precision
from ltbench.method import AddedLater, Probe

Backbone = Annotated[str, Field(description="timm's name"), Probe("tf_efficientnet_lite1")]
Weights = Annotated[str, Field(description="pretrained, random or a checkpoint's path"), Probe("random")]
Layers = Annotated[tuple[int, ...], Field(min_length=1, description="feature levels, finest first"), Probe((2,))]
BackbonePrecision = Annotated[
    Precision, Field(description="what the backbone computes in; tf32 on CUDA alone"), Probe("bf16"), AddedLater()
]
SmoothingSigma = Annotated[float, Field(ge=0, description="Gaussian over the map, in pixels")]
