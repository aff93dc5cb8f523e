"""Convolutions of one batch on two cores, with numbers that do not depend on how many there are.

torch computes a convolution in another way on several threads than on one. Here each part runs on one: the images'
halves forward, and backward the gradient of the images beside that of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ltbench.blocks.threads import side_by_side

LEAST_IMAGES = 4
"""Of a batch that is cut in two: torch computes a single image in another way."""

LEAST_PRODUCTS = 10_000_000
"""Of a convolution that is cut in two: below it, telling another thread costs as much as it spares."""

_OF_IMAGES, _OF_WEIGHTS = (True, False, False), (False, True, True)
"""Which gradients torch is asked for: of the images, the weights and the bias."""


class Convolution(nn.Conv2d):
    """torch.nn.Conv2d, of zeros outside; in training on a CPU its work is shared by two threads.

    To be trained inside `torch_on_one_thread`, as by `blocks.training.loop` with one shard.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        """Return (B, out, H', W') of (B, in, H, W)."""
        if self._is_shared(input):
            found: Tensor = _Shared.apply(input, self.weight, self.bias, self.stride, self.padding)
            return found
        return super().forward(input)

    def _is_shared(self, images: Tensor) -> bool:
        count, _, height, width = images.shape
        products = count * height * width * self.weight.numel()
        is_large = count >= LEAST_IMAGES and products >= LEAST_PRODUCTS
        return is_large and images.device.type == "cpu" and torch.is_grad_enabled() and torch.get_num_threads() == 1


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = list(stride), list(padding)
        half = (len(images) + 1) // 2
        convolve = partial(F.conv2d, weight=weight, bias=bias, stride=stride, padding=padding)
        return torch.cat(side_by_side(partial(convolve, images[:half]), partial(convolve, images[half:])))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors

        def wanted(which: Sequence[bool]) -> tuple[Tensor | None, ...]:
            found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
                gradient,
                images,
                weight,
                bias_sizes=[len(weight)],
                stride=ctx.stride,
                padding=ctx.padding,
                dilation=[1, 1],
                transposed=False,
                output_padding=[0, 0],
                groups=1,
                output_mask=which,
            )
            return found

        if not ctx.needs_input_grad[0]:
            return None, *wanted(_OF_WEIGHTS)[1:], None, None
        (_, *own), (of_images, *_) = side_by_side(partial(wanted, _OF_WEIGHTS), partial(wanted, _OF_IMAGES))
        return of_images, *own, None, None
