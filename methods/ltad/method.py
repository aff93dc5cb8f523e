"""LTAD (Ho, Peng, Vasconcelos, CVPR 2024, arXiv 2403.20236): it is told the category of each image, in test too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ltbench.errors import SpecError
from ltbench.method import ImageSet, Method, MethodInfo

from .semantic_reconstruction import Assign, SemanticReconstruction


@dataclass
class LTAD(SemanticReconstruction):
    """Patches scored by how well a transformer rebuilds them and by whether their category's name fits or is broken."""

    info: ClassVar[MethodInfo] = MethodInfo("ltad", "LTAD", paper="arXiv:2403.20236", uses_categories=True)

    def assigner(self, images: ImageSet) -> Assign:
        """Return the true category of each image.

        Raises:
            SpecError: a category that no training image has.
        """
        categories = images.categories
        unknown = sorted(set(categories) - set(self.categories_))
        if unknown:
            raise SpecError(f"Expected a category of the training images, got {unknown[0]!r}. Use ltad_labelfree.")

        def assign(index: int, code: Tensor) -> int:
            return self.categories_.index(categories[index])

        return assign


METHOD: type[Method] = LTAD
