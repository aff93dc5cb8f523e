"""Windows of one image through CLIP's image tower: all of a scale in one batch, beside one after the other.

They go through ltbench's tower, and with the same weights through open_clip's as it comes: one after the other, and in
one batch as the public re-implementations of WinCLIP do. All run on one thread, as an image does in a run; sides take
turns, and seconds are of the processor, medians over rounds.

Run: python benchmarks/winclip_windows.py [--width 896 --layers 12] [--rounds 3]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import open_clip
import torch
from torch import Tensor
from turns import median_seconds, print_table

from ltbench.blocks.vision_language import window_places
from ltbench.blocks.vision_language.clip_network import ClipShape, TowerShape, VisionTower
from ltbench.blocks.vision_language.clip_weights import build, random_state

Read = Callable[[Tensor], Tensor]


def towers(width: int, layers: int) -> tuple[VisionTower, Any]:
    """Return ltbench's image tower and open_clip's, with the same random weights."""
    shape = ClipShape(TowerShape(layers, width, width // 64), TowerShape(1, 64, 1), 240, 16, 640, quick_gelu=False)
    state = random_state(shape, 0)
    vision = {"image_size": 240, "layers": layers, "width": width, "patch_size": 16, "head_width": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    other = open_clip.model.CLIP(640, vision, text, quick_gelu=False).eval()
    other.load_state_dict(state, strict=False)
    return build(shape, state, "random").visual.eval(), other.visual


def by_open_clip(tower: Any, embedded: Tensor, places: Tensor) -> Tensor:
    """Return the codes of windows, (1, n, dim)."""
    tokens = embedded[0, torch.cat([places.new_zeros(len(places), 1), places + 1], dim=1)]
    codes: Tensor = tower.ln_post(tower.transformer(tower.ln_pre(tokens))[:, 0]) @ tower.proj
    return codes[None]


def one_by_one(read: Read, places: Tensor) -> Tensor:
    """Return the codes of windows, (1, n, dim), one after the other."""
    return torch.cat([read(place[None]) for place in places], dim=1)


def ratio(of: float, seconds: float) -> float:
    """Return how many times as long seconds are."""
    return seconds / of


def main() -> None:
    """Print a table a scale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=896)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    own, other = towers(given.width, given.layers)
    with torch.inference_mode():
        embedded = own.embed(torch.randn(1, 3, 240, 240, generator=torch.Generator().manual_seed(0)))
        readers: dict[str, Read] = {
            "ltbench": partial(own.windows, embedded),
            "open_clip": partial(by_open_clip, other, embedded),
        }
        for side in (2, 3):
            places = torch.tensor(window_places((15, 15), side))
            sides: dict[str, Callable[[], Tensor]] = {}
            for name, read in readers.items():
                sides[f"{name}, one batch"] = partial(read, places)
                sides[f"{name}, one by one"] = partial(one_by_one, read, places)
            seconds = median_seconds(sides, given.rounds, time.process_time)
            batch = next(iter(seconds.values()))
            times = partial(ratio, batch)
            print_table(f"{len(places)} windows of {side}x{side}", "times one batch", seconds, times)
            expected = sides["open_clip, one by one"]()
            apart = max(float((sides[name]() - expected).abs().max()) for name in sides)
            print(f"\nCodes of up to {float(expected.abs().max()):.1f}, apart by at most {apart:.1e}.\n")


if __name__ == "__main__":
    main()
