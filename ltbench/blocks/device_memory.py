"""What a device with memory of its own must have room for, counted before anything is computed there."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ltbench.method import ImageCounts

FLOAT = 4
"""Bytes of a float32."""

WORKSPACE = 2**29
"""Bytes beside the tensors: the context, the libraries' kernels and cuDNN's work areas."""


class Room(NamedTuple):
    """What a frozen network takes on a device.

    Args:
        weights: bytes of its weights.
        image: bytes of an image on its way through it, and of what is made of that at once.
    """

    weights: int = 0
    image: int = 0

    def of(self, batch: int) -> int:
        """Return the bytes that a batch takes at most, with the network and the libraries."""
        return WORKSPACE + self.weights + batch * self.image


NOTHING = Room()

_ALIGNED = 8  # values that divide a head's width where CUDA's fused attention serves whatever the precision


class Allocated(TorchDispatchMode):
    """While it is entered, counts the bytes of all tensors that are made inside, each as long as it is there.

    Attributes:
        peak: the most bytes that there were at once.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._there = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Do what is asked, and note what it made."""
        before = {own.untyped_storage()._cdata for own in tree_leaves((args, kwargs)) if isinstance(own, Tensor)}
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in before:
                self._note(tensor.untyped_storage())
        return made

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def forget(_: object) -> None:
            self._there -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, forget)
        self._there += size
        self.peak = max(self.peak, self._there)


class _FusedAttention(TorchFunctionMode):
    """While it is entered, attention on "meta" has no weights where CUDA has none: without gradients.

    With gradients there are (`switches.fixed_gradients`), as torch has them on "meta" in any case.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Do what is asked; attention in the kernel that CUDA takes where heads are of its widths."""
        given = kwargs or {}
        if func is not F.scaled_dot_product_attention or torch.is_grad_enabled() or args[0].shape[-1] % _ALIGNED:
            return func(*args, **given)
        queries, keys, values = args
        bias = given.get("attn_mask")
        if bias is not None:
            bias = bias.expand(*queries.shape[:-1], keys.shape[-2])
        kernel = torch.ops.aten._scaled_dot_product_efficient_attention
        return kernel(queries, keys, values, bias, compute_log_sumexp=False, is_causal=given.get("is_causal", False))[0]


def features_phase(room: Room, images: ImageCounts) -> dict[str, int]:
    """Return what reading all training images takes on a device, as a `MemoryEstimate` has it; nothing on a CPU."""
    if not images.batch:
        return {}
    return {f"features of {sum(images.train):,} images in batches of {images.batch}": room.of(images.batch)}


def peak_bytes(work: Callable[[], object], device: str = "meta") -> int:
    """Return the most bytes of tensors that there are at once while something is computed, its results included.

    Args:
        work: computes with tensors that it makes, and with others, which are not counted.
        device: where it makes them; on "meta" nothing is computed.
    """
    with torch.device(device), _FusedAttention() if device == "meta" else nullcontext(), Allocated() as allocated:
        work()
    peak: int = allocated.peak
    return peak


def free_bytes(device: torch.device) -> int:
    """Return the bytes that a CUDA device has left, with those that this process keeps and does not use."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + unused)
