"""Hyper-parameters of methods with a memory bank: annotated types, used as those of `blocks.features`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ltbench.blocks.memory_bank.bank import Embedding
from ltbench.blocks.memory_bank.rows import Precision
from ltbench.method import Probe

EmbeddingKind = Annotated[Embedding, Field(description="how feature maps become patch vectors")]
EmbedDim = Annotated[
    int,
    Field(ge=1, description="length of an official patch vector"),
    Probe(32, {"embedding": "official", "embed_dim": 64}),
]
LofK = Annotated[int, Field(ge=1, description="neighbours of the local outlier factor")]
WeightDim = Annotated[int, Field(ge=1, description="dimensions in which patches are weighed"), Probe(16)]
OutlierShare = Annotated[float, Field(ge=0, lt=1, description="tau, the share of patches left out")]
CoresetRatio = Annotated[float, Field(gt=0, le=1, description="share of the patches that is kept")]
ProjectionDim = Annotated[int, Field(ge=1, description="dimensions in which the coreset measures")]
Neighbours = Annotated[int, Field(ge=1, description="nearest rows whose squared distances are averaged")]
PatchPrecision = Annotated[
    Precision, Field(description="how training patches are kept; float16 halves them and rounds")
]
