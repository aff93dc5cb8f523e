"""Spatial transformers: a feature map says how it should be turned, scaled or moved, and is resampled so.

Matrices are (2, 3) in torch's normalised coordinates (x right, y down, from -1 to 1). MediaBrain-SJTU/RegAD (5e2c1f8).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Mode = Literal[
    "rotation_scale",
    "affine",
    "translation",
    "rotation",
    "scale",
    "shear",
    "translation_scale",
    "rotation_translation",
    "rotation_translation_scale",
]

_IDENTITY: dict[str, tuple[float, ...]] = {
    "rotation_scale": (0, 1, 1),
    "affine": (1, 0, 0, 0, 1, 0),
    "translation": (0, 0),
    "rotation": (0,),
    "scale": (1, 1),
    "shear": (0, 0),
    "translation_scale": (0, 0, 1, 1),
    "rotation_translation": (0, 0, 0),
    "rotation_translation_scale": (0, 0, 0, 1, 1),
}
"""Mode -> the parameters that change nothing, in their order."""

CHANNELS, REDUCED, HIDDEN = 64, 16, 1024
"""Widths inside a transformer: of its two convolutions and of its hidden linear layer."""


class SpatialTransformer(nn.Module):
    """Resamples a feature map by a matrix that it reads off the map; at first it changes nothing.

    Args:
        channels: of the map.
        size: (height, width) of the map; the linear layers depend on it.
        mode: what the matrix may do.
    """

    def __init__(self, channels: int, size: tuple[int, int], mode: Mode) -> None:
        super().__init__()
        self.mode: Mode = mode
        self.conv = nn.Sequential(
            nn.Conv2d(channels, CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(CHANNELS),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Conv2d(CHANNELS, REDUCED, 3, padding=1, bias=False),
            nn.BatchNorm2d(REDUCED),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        height, width = ((((side + 1) // 2) + 1) // 2 for side in size)
        identity = torch.tensor(_IDENTITY[mode])
        last = nn.Linear(HIDDEN, len(identity))
        self.fc = nn.Sequential(nn.Linear(REDUCED * height * width, HIDDEN), nn.ReLU(), last)
        with torch.no_grad():
            last.weight.zero_()
            last.bias.copy_(identity)

    def theta(self, x: Tensor) -> Tensor:
        """Return the matrices (B, 2, 3) of maps (B, C, h, w)."""
        return matrices(self.fc(self.conv(x).flatten(1)), self.mode)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the resampled maps (B, C, h, w), and the matrices (B, 2, 3)."""
        theta = self.theta(x)
        return resampled(x, theta), theta


def matrices(parameters: Tensor, mode: Mode) -> Tensor:
    """Return the matrices (B, 2, 3) of parameters (B, n).

    Parameters come in the order rotation, translation (x, y), scale (x, y). A scale multiplies the diagonal alone:
    [[cos a s_x, -sin a, t_x], [sin a, cos a s_y, t_y]]; a shear gives the two other entries.
    """
    if mode == "affine":
        return parameters.view(-1, 2, 3)
    rest = list(parameters.unbind(dim=1))
    zero, one = torch.zeros_like(rest[0]), torch.ones_like(rest[0])
    cosine, sine = one, zero
    if mode.startswith("rotation"):
        angle = rest.pop(0)
        cosine, sine = torch.cos(angle), torch.sin(angle)
    upper, lower = (rest.pop(0), rest.pop(0)) if mode == "shear" else (-sine, sine)
    right, down = (rest.pop(0), rest.pop(0)) if "translation" in mode else (zero, zero)
    across, along = (rest.pop(0), rest.pop(0)) if "scale" in mode else (one, one)
    rows = (cosine * across, upper, right, lower, cosine * along, down)
    return torch.stack(rows, dim=1).view(-1, 2, 3)


def inverse(theta: Tensor) -> Tensor:
    """Return the matrices (B, 2, 3) that undo `theta` (B, 2, 3): the inverse of it completed by a row 0, 0, 1."""
    last = theta.new_tensor([0.0, 0.0, 1.0]).expand(len(theta), 1, 3)
    undone: Tensor = torch.linalg.inv(torch.cat([theta, last], dim=1))
    return undone[:, :2]


def resampled(x: Tensor, theta: Tensor) -> Tensor:
    """Return maps (B, C, h, w) resampled bilinearly by matrices (B, 2, 3), reflected at the edges of outer pixels."""
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    moved: Tensor = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return moved
