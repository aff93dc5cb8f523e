"""The hyper-parameters of HVQ-Trans; the defaults are the authors'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from ltbench.blocks.features.settings import Backbone, BackbonePrecision, Layers, Weights
from ltbench.blocks.training.settings import BatchSize, Epochs, LrGamma, LrStep, TrainingPrecision
from ltbench.method import Probe

from .net import NetworkSettings

_TRAIN = {"backbone_statistics": "train"}


@dataclass
class HyperParameters:
    """What HVQ-Trans is configured by."""

    backbone: Backbone = "tf_efficientnet_b4.aa_in1k"
    weights: Weights = "pretrained"
    backbone_precision: BackbonePrecision = "float32"
    layers: Annotated[Layers, Field(description="feature levels")] = (0, 1, 2, 3)
    token_stride: Annotated[int, Field(ge=1, description="pixels of a token: 224 of 16 are 14x14"), Probe(16)] = 16
    normalise: Annotated[bool, Field(description="divide features by their RMS over the training images")] = False
    backbone_statistics: Annotated[
        Literal["eval", "train"],
        Field(description="of batch normalisation in training: ImageNet's, or the batch's, with drop-connect"),
    ] = "eval"
    statistics_momentum: Annotated[
        float, Field(gt=0, le=1, description="share of a batch in the running statistics"), Probe(0.5, _TRAIN)
    ] = 0.01
    drop_connect: Annotated[
        float,
        Field(ge=0, lt=1, description="probability for the last block; falls to 0 at the first"),
        Probe(0, _TRAIN),
    ] = 0.2
    categories: Annotated[
        Literal["given", "nearest", "one"],
        Field(description="whose codebooks an image has: told, guessed in test, or one set for all"),
        Probe("one"),
    ] = "given"
    width: Annotated[int, Field(ge=2, description="channels of the encoder; the decoder has twice"), Probe(32)] = 256
    depth: Annotated[int, Field(ge=1, description="layers of the encoder, and of the decoder")] = 4
    heads: Annotated[int, Field(ge=1, description="heads of each attention"), Probe(4)] = 8
    ffn_width: Annotated[int, Field(ge=1, description="channels inside the feed-forward blocks")] = 1024
    dropout: Annotated[float, Field(ge=0, lt=1, description="probability of dropout in training")] = 0.1
    codes: Annotated[int, Field(ge=1, description="codes of each codebook"), Probe(8)] = 512
    decay: Annotated[float, Field(ge=0, lt=1, description="share of the codes' averages that an image leaves")] = 0.99
    codebook_start: Annotated[
        Literal["normal", "tokens", "kmeans"],
        Field(description="codes at first: N(0, 1), training tokens, or the means of their clusters"),
    ] = "normal"
    latent_weight: Annotated[float, Field(ge=0, description="factor of the distance of tokens from their codes")] = 0.25
    epochs: Epochs = 1000
    batch_size: BatchSize = 16
    learning_rate: Annotated[float, Field(gt=0, description="of AdamW, at first")] = 1e-4
    weight_decay: Annotated[float, Field(ge=0, description="of AdamW"), Probe(0.5)] = 1e-4
    clip_norm: Annotated[float, Field(ge=0, description="largest norm of the gradient; 0: none"), Probe(1e-3)] = 0.1
    lr_step: LrStep = 800
    lr_gamma: LrGamma = 0.1
    precision: TrainingPrecision = "float32"
    ot_weight: Annotated[float, Field(ge=0, description="factor of the prototype score in the map; 0: none")] = 80.0
    pool_side: Annotated[int, Field(ge=1, description="pixels of the mean whose maximum scores an image")] = 16

    @property
    def network_settings(self) -> NetworkSettings:
        """What the network is made from."""
        return NetworkSettings(self.width, self.depth, self.heads, self.ffn_width, self.dropout, self.codes, self.decay)
