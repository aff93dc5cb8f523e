"""How much memory GroupCore takes, from counts alone, with categories for groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ltbench.blocks.features.augmentation import views_of
from ltbench.blocks.features.pyramids import map_shapes
from ltbench.blocks.memory_bank.coreset import coreset_size
from ltbench.blocks.memory_bank.estimate import BankMemory, maps_bytes, patch_shape
from ltbench.method import ImageCounts, MemoryEstimate

from .group_sampler import sampler_bytes

if TYPE_CHECKING:
    from .method import GroupCore


def estimated(
    settings: GroupCore, scales: Sequence[tuple[int, ...]], images: ImageCounts, *, streamed: bool
) -> MemoryEstimate:
    """Return what fitting and searching take; the deep scale is held beside the first.

    Args:
        settings: the hyper-parameters.
        scales: the feature levels of each scale.
        images: how many there are.
        streamed: whether patches lie in files.
    """
    memory, *deep = (_memory(settings, layers, images, streamed) for layers in scales)
    columns = sum(channels for channels, _, _ in map_shapes(settings.backbone, settings.group_layers, images.size).maps)
    kept = _kept(settings, memory, images)
    beside = sum(scale.held + scale.bank_bytes(_kept(settings, scale, images)) for scale in deep)
    phases = {
        f"{memory.rows:,} patches of {memory.shape.dimension:,} values": memory.features()
        + sampler_bytes(sum(images.train), columns)
    }
    for rows, ratio in _largest(settings, memory, images):
        name = f"coreset of {rows:,} patches in {settings.projection_dim} dimensions"
        phases[name] = memory.coreset(rows, settings.projection_dim, ratio) + memory.bank_bytes(kept)
    phases[f"memory bank of {kept:,} patches"] = memory.bank(kept) + memory.bank_bytes(settings.references)
    phases[f"search in {kept:,} patches"] = memory.search(kept, images) + maps_bytes(images)
    disk = sum(scale.stored + scale.bank_bytes(_kept(settings, scale, images)) for scale in (memory, *deep))
    return MemoryEstimate(
        {phase: size + beside for phase, size in phases.items()},
        disk if streamed else 0,
        _on_device(settings, (memory, *deep), images),
    )


def _on_device(settings: GroupCore, scales: Sequence[BankMemory], images: ImageCounts) -> dict[str, int]:
    """Return what takes how much on a device, where each scale has its own network and memory bank beside the other's.

    While odd images are sought, the patches that they are compared with are a memory bank, too.
    """
    found: dict[str, int] = {}
    for number, scale in enumerate(scales):
        others = [*scales[:number], *scales[number + 1 :]]
        beside = sum(own.shape.room.weights + own.bank_bytes(_kept(settings, own, images)) for own in others)
        rows = max(_kept(settings, scale, images), settings.references)
        own = scale.on_device(images, rows, projected=settings.projection_dim, beside=beside)
        found |= {phase: max(size, found.get(phase, 0)) for phase, size in own.items()}
    return found


def _memory(settings: GroupCore, layers: Sequence[int], images: ImageCounts, streamed: bool) -> BankMemory:
    shape = patch_shape(
        settings.backbone, layers, settings.embedding, settings.embed_dim, images.size, settings.group_layers
    )
    return BankMemory(shape, sum(images.train), settings.patch_precision, streamed)


def _groups(settings: GroupCore, memory: BankMemory, images: ImageCounts) -> list[tuple[int, float]]:
    """Return the patches of each group and the share of them that is kept."""
    views = len(views_of(settings.augmentation))
    return [
        (count * memory.shape.positions, settings.coreset_ratio)
        if count > settings.tail_limit
        else (count * memory.shape.positions * views, settings.tail_coreset_ratio)
        for count in images.train
    ]


def _kept(settings: GroupCore, memory: BankMemory, images: ImageCounts) -> int:
    return sum(coreset_size(ratio, rows) for rows, ratio in _groups(settings, memory, images))


def _largest(settings: GroupCore, memory: BankMemory, images: ImageCounts) -> list[tuple[int, float]]:
    """Return the largest large and the largest small group."""
    groups = _groups(settings, memory, images)
    kinds = ([group for group in groups if group[1] == ratio] for ratio in {ratio for _, ratio in groups})
    return [max(kind) for kind in kinds]
