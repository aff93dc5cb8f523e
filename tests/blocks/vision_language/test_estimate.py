"""What a batch takes in a CLIP on a device, beside what is estimated; counted on "meta", without weights."""

from __future__ import annotations

from typing import cast

import pytest
import torch

from ltbench.blocks.device_memory import Room, peak_bytes
from ltbench.blocks.vision_language import LAST, Views
from ltbench.blocks.vision_language.clip import ClipReader, ClipText
from ltbench.blocks.vision_language.clip_network import Clip
from ltbench.blocks.vision_language.estimate import reader_room, reading_phases
from ltbench.blocks.vision_language.shapes import clip_shape
from ltbench.method import ImageCounts

BATCH = 4


@pytest.mark.parametrize(
    ("name", "side", "views"),
    [
        ("ViT-B-16-plus-240/laion400m_e31", 240, Views(windows=(2, 3), local=(LAST,))),
        ("ViT-B-16-plus-240/laion400m_e31", 240, Views(tokens=(3, 6, 9, 12))),
        ("ViT-L-14-336-quickgelu/openai", 518, Views(local=(6, 12, 18, 24), value_blocks=20)),
    ],
)
def test_a_batch_takes_less_than_estimated(name: str, side: int, views: Views) -> None:
    shape = clip_shape(name)
    assert shape is not None
    with torch.device("meta"):
        network = Clip(shape).eval().requires_grad_(requires_grad=False)
    reader = ClipReader(name, network, cast(ClipText, None), "meta", {})
    grid = reader.grid((side, side))

    def work() -> object:
        with torch.inference_mode():
            found = reader._answers(torch.empty(BATCH, side, side, 3, dtype=torch.uint8), views, grid)
            return torch.cat([own.reshape(BATCH, -1) for own in found.values()], dim=1)

    seen, room = peak_bytes(work), reader_room(name, (side, side), views)
    assert seen <= BATCH * room.image <= 4 * seen
    assert room.weights == 4 * sum(own.numel() for own in network.parameters())


def test_what_else_lies_there_counts_too() -> None:
    room, images = Room(1000, 10), ImageCounts((8, 8), (5,), (3, 4), batch=2)
    name = "maps of 4 images in batches of 2"
    assert reading_phases(room, images, kept=7) == {name: room.of(2) + 7}
    assert reading_phases(room, ImageCounts((8, 8), (5,), (3,))) == {}
