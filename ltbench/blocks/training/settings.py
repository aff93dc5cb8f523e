"""Hyper-parameters of methods that train a network: annotated types, used as those of `blocks.features`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ltbench.blocks.training.learner import Precision

Epochs = Annotated[int, Field(ge=1, description="passes over the training images")]
BatchSize = Annotated[int, Field(ge=1, description="images of a step")]
LrStep = Annotated[int, Field(ge=0, description="epochs between drops of the learning rate; 0 for none")]
LrGamma = Annotated[float, Field(gt=0, le=1, description="factor of a drop of the learning rate")]
JitterScale = Annotated[float, Field(ge=0, description="alpha of the noise on the input in training")]
TrainingPrecision = Annotated[Precision, Field(description="of training: bfloat16 is faster, less exact")]
