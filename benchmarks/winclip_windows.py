"""Windows of one image through CLIP's image tower: all of a scale in one batch, beside one after the other.

Run: python benchmarks/winclip_windows.py [--width 896 --layers 12] [--threads 1]
"""

from __future__ import annotations

import argparse
import time

import torch

from ltbench.blocks.vision_language import window_places
from ltbench.blocks.vision_language.clip_network import ClipShape, TowerShape
from ltbench.blocks.vision_language.clip_weights import build, random_state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=896)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    vision = TowerShape(given.layers, given.width, given.width // 64)
    shape = ClipShape(vision, TowerShape(1, 16, 1), 240, 16, 640, quick_gelu=False, vocabulary=8)
    tower = build(shape, random_state(shape, 0), "random").visual.eval()
    with torch.inference_mode():
        embedded = tower.embed(torch.randn(1, 3, 240, 240, generator=torch.Generator().manual_seed(0)))
        for side in (2, 3):
            places = torch.tensor(window_places((15, 15), side))
            tower.windows(embedded, places[:2])
            start = time.perf_counter()
            batch = tower.windows(embedded, places)
            middle = time.perf_counter()
            single = torch.cat([tower.windows(embedded, place[None]) for place in places], dim=1)
            end = time.perf_counter()
            apart = float((batch - single).abs().max())
            print(
                f"{side}x{side}: {len(places)} windows, batch {middle - start:.2f} s, loop {end - middle:.2f} s, "
                f"{(end - middle) / (middle - start):.1f} times, apart by at most {apart:.1e}"
            )


if __name__ == "__main__":
    main()
