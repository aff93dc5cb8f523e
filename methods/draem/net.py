"""DRAEM's two networks: an autoencoder without skips, and a U-Net that compares its output with its input.

Source: the authors' code (VitjanZ/DRAEM). Every convolution is 3x3 with a bias, stride 1 and padding 1; but for the
last one of each network, batch normalisation and ReLU follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ltbench.blocks.networks.convolution import Convolution

STRIDE = 32
"""The U-Net halves its input five times, so that both sides must be multiples of this."""

WEIGHT_DEVIATION = 0.02
"""Of the normal distributions of initial weights: convolutions about 0, batch normalisation about 1 (authors' code)."""


def double_convolution(channels: int, middle: int, out: int) -> nn.Sequential:
    """Return two convolutions, each with batch normalisation and ReLU."""
    return nn.Sequential(
        Convolution(channels, middle, 3, padding=1),
        nn.BatchNorm2d(middle),
        nn.ReLU(inplace=True),
        Convolution(middle, out, 3, padding=1),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


def upsampling(channels: int, out: int) -> nn.Sequential:
    """Return a doubling of the sides, bilinear with corners on corners, and a convolution."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        Convolution(channels, out, 3, padding=1),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


class Reconstructive(nn.Module):
    """An autoencoder that passes everything through a code of 1/16 of the sides, (B, 8 w, H / 16, W / 16).

    Args:
        width: w, channels at the full size; 128 in the paper.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.down = nn.ModuleList(
            double_convolution(i, o, o) for i, o in ((3, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 8 * w), (8 * w, 8 * w))
        )
        inside = (8 * w, 4 * w, 2 * w, w)
        self.up = nn.ModuleList(upsampling(i, i) for i in inside)
        self.merge = nn.ModuleList(
            double_convolution(i, i, o) for i, o in zip(inside, (4 * w, 2 * w, w, w), strict=True)
        )
        self.output = Convolution(w, 3, 3, padding=1)

    def encode(self, images: Tensor) -> Tensor:
        """Return the code of images (B, 3, H, W)."""
        return _encoded(self.down, images)[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Return images (B, 3, H, W) rebuilt; values may leave [0, 1]."""
        x = self.encode(images)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(up(x))
        rebuilt: Tensor = self.output(x)
        return rebuilt


class Discriminative(nn.Module):
    """A U-Net that says of each pixel whether it is normal or abnormal.

    Args:
        width: channels at the full size; 64 in the paper.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        widths = (6, w, 2 * w, 4 * w, 8 * w, 8 * w, 8 * w)
        self.down = nn.ModuleList(double_convolution(i, o, o) for i, o in pairwise(widths))
        lifted = ((8 * w, 8 * w), (8 * w, 4 * w), (4 * w, 2 * w), (2 * w, w), (w, w))
        self.up = nn.ModuleList(upsampling(i, o) for i, o in lifted)
        self.merge = nn.ModuleList(
            double_convolution(o + skip, o, o) for (_, o), skip in zip(lifted, widths[5:0:-1], strict=True)
        )
        self.output = Convolution(w, 2, 3, padding=1)

    def forward(self, rebuilt: Tensor, images: Tensor) -> Tensor:
        """Return logits (B, 2, H, W), normal and abnormal, from images (B, 3, H, W) rebuilt and as they were."""
        *skips, x = _encoded(self.down, torch.cat([rebuilt, images], dim=1))
        for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            x = merge(torch.cat([up(x), skip], dim=1))
        logits: Tensor = self.output(x)
        return logits


class Draem(nn.Module):
    """Both networks. Gradients of the second reach the first.

    Args:
        reconstructive_width: channels of the autoencoder at the full size.
        discriminative_width: channels of the U-Net at the full size.
    """

    def __init__(self, reconstructive_width: int, discriminative_width: int) -> None:
        super().__init__()
        self.reconstructive = Reconstructive(reconstructive_width)
        self.discriminative = Discriminative(discriminative_width)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return images (B, 3, H, W) in [0, 1] rebuilt, and the logits (B, 2, H, W)."""
        rebuilt = self.reconstructive(images)
        return rebuilt, self.discriminative(rebuilt, images)

    def draw_weights(self, seed: int) -> None:
        """Draw the initial weights as the authors do: N(0, 0.02) and N(1, 0.02), biases of batch normalisation 0.

        Biases of convolutions keep torch's distribution, U(-1, 1) / sqrt(9 C).
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    module.weight.normal_(0, WEIGHT_DEVIATION, generator=generator)
                    assert module.bias is not None
                    bound = (module.in_channels * 9) ** -0.5
                    module.bias.uniform_(-bound, bound, generator=generator)
                elif isinstance(module, nn.BatchNorm2d):
                    module.weight.normal_(1, WEIGHT_DEVIATION, generator=generator)
                    module.bias.zero_()


def image_score(abnormal: Tensor, pool_side: int) -> Tensor:
    """Return the maximum of the box average of maps (B, H, W), zeros outside counted, (B).

    Args:
        abnormal: probability of each pixel.
        pool_side: side of the box in pixels, odd; 21 in the authors' code.
    """
    averaged = F.avg_pool2d(abnormal[:, None], pool_side, stride=1, padding=pool_side // 2)
    return averaged.amax(dim=(1, 2, 3))


def scored(network: Draem, pool_side: int, rows: list[Tensor]) -> list[Tensor]:
    """Return the scores (B,) and maps (B, H, W) of images (B, H, W, 3) in [0, 1], for `each_image`."""
    abnormal = torch.softmax(network(rows[0].permute(0, 3, 1, 2))[1], dim=1)[:, 1]
    return [image_score(abnormal, pool_side), abnormal]


def _encoded(blocks: nn.ModuleList, x: Tensor) -> Sequence[Tensor]:
    """Return what each block makes, with a maximum over 2x2 pixels before all but the first."""
    found: list[Tensor] = []
    for block in blocks:
        x = block(F.max_pool2d(x, 2) if found else x)
        found.append(x)
    return found
