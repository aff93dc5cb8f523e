"""LTAD's parts (Ho, Peng, Vasconcelos, CVPR 2024): learnt names, synthesis, semantic scores.

Two methods are made of these: one that is told the category of a test image, and one that guesses it.
"""

from ltbench.blocks.semantic_reconstruction.method import Assign, SemanticReconstruction

__all__ = ["Assign", "SemanticReconstruction"]
