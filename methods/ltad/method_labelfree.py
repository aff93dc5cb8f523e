"""LTAD (arXiv 2403.20236) that guesses the category of a test image: our variant, to see what being told is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from ltbench.method import ImageSet, Method, MethodInfo, Probe

from .semantic_reconstruction import Assign, SemanticReconstruction


@dataclass
class LTADLabelFree(SemanticReconstruction):
    """LTAD that takes a test image to be of the category whose name, or mean training image, its code is most like."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "ltad_labelfree", "LTAD, categories guessed", paper="arXiv:2403.20236", uses_training_categories=True
    )

    match: Annotated[
        Literal["names", "products", "images"],
        Field(description="compare the code with t_c, by cosine or by product, or with the mean training code"),
        Probe("images"),
    ] = "names"

    def assigner(self, images: ImageSet) -> Assign:
        """Return the category whose text has the highest cosine or product with the code, or the nearest mean code."""
        texts = self.texts_.name.cpu()
        texts = normalize(texts, dim=1) if self.match == "names" else texts

        def assign(index: int, code: Tensor) -> int:
            if self.match == "images":
                return int(torch.argmin((self.mean_codes_ - code).square().sum(dim=1)))
            return int(torch.argmax(texts @ code))

        return assign


METHOD: type[Method] = LTADLabelFree
