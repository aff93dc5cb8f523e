"""A device beside the CPU that any machine has: it computes as the CPU does, and refuses what lies somewhere else.

Tensors that were sent to `SECOND` say that they are there and keep their numbers in an ordinary tensor. An operation on
such a tensor and one that was not sent is an error, as on CUDA, but for indices and numbers without dimensions; so is
numpy's look at one. It shows that a method keeps to its device, gradients included, not what a device computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ltbench.blocks import device as blocks

SECOND = "meta"
"""Its name is that of torch's device for shapes alone, which autograd knows without a driver."""

COPIES = ("aten::_to_copy", "aten::copy_")
INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_unsafe_index", "aten::_unsafe_index_put")


class WrongDeviceError(Exception):
    """An operation on tensors of two devices."""


class There(Tensor):
    """A tensor on the second device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> There:
        """Return a tensor that has the shape of `held`, and lies on the second device."""
        made: There = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(SECOND),
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        """Return the numbers, which waits for them on any device."""
        return self.held.tolist()

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(held: dict[str, Tensor], meta: None, size: Any, stride: Any) -> There:
        return There(held["held"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _computed(func, args, kwargs or {})


def _computed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Compute on the CPU what was asked of either device, and leave it where it belongs."""
    name = func._schema.name
    checked = (args[0], *args[2:]) if name in INDEXED else (args, kwargs)
    tensors = [leaf for leaf in tree_leaves(checked) if isinstance(leaf, Tensor)]
    is_there = any(isinstance(tensor, There) for tensor in tree_leaves((args, kwargs)))
    elsewhere = [tensor for tensor in tensors if tensor.dim() and isinstance(tensor, There) != is_there]
    if elsewhere and name not in COPIES:
        where = [(tuple(tensor.shape), tensor.device.type) for tensor in tensors]
        raise WrongDeviceError(f"Expected tensors on one device for {func}, got {where}.")
    if (target := kwargs.get("device")) is not None:
        is_there = torch.device(target).type == SECOND
        kwargs = {**kwargs, "device": torch.device("cpu")}
    made = func(*tree_map(_plain, args), **tree_map(_plain, kwargs))
    written = [argument for argument in func._schema.arguments if argument.alias_info and argument.alias_info.is_write]
    if written and func._schema.returns:  # what was written into is what is returned
        places = {argument.name: place for place, argument in enumerate(func._schema.arguments)}
        own = [
            kwargs.get(one.name, args[places[one.name]] if places[one.name] < len(args) else None) for one in written
        ]
        returned = [one for one in func._schema.returns if one.alias_info and one.alias_info.is_write]
        if len(returned) == len(func._schema.returns):
            return own[0] if len(own) == 1 else tuple(own)
    return tree_map(lambda one: There(one) if isinstance(one, Tensor) else one, made) if is_there else made


def _plain(value: Any) -> Any:
    return value.held if isinstance(value, There) else value


class _Dispatched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Made(TorchFunctionMode):
    """Sends what torch makes on a device without asking its dispatcher: tensors of numbers, and indices in brackets."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        if func is Tensor.new_tensor:
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(args[0].device)
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            args = (
                args[0],
                tuple(torch.tensor(i) if isinstance(i, list | np.ndarray) else i for i in index),
                *args[2:],
            )
        return func(*args, **kwargs)


@contextmanager
def _second_device() -> Iterator[None]:
    with _Dispatched(), _Made():  # type: ignore[no-untyped-call]
        yield


@contextmanager
def second_device(patch: pytest.MonkeyPatch, batch: int) -> Iterator[None]:
    """Let there be a second device, which takes images in batches, in this thread and in those that pools start."""
    submit, autocast = ThreadPoolExecutor.submit, torch.autocast
    inits: dict[type, Callable[..., None]] = {}

    def submitted(pool: ThreadPoolExecutor, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        def inside() -> Any:
            with _second_device():
                return task(*args, **kwargs)

        return submit(pool, inside)

    def cast(kind: str, *args: Any, **kwargs: Any) -> AbstractContextManager[None]:
        return nullcontext() if kind == SECOND else autocast(kind, *args, **kwargs)

    def without_gradients(mode: bool = True) -> AbstractContextManager[Any]:
        return torch.no_grad() if mode else nullcontext()

    def unfused(kind: type) -> Callable[..., None]:
        def init(self: Any, *args: Any, fused: bool | None = None, **kwargs: Any) -> None:
            inits[kind](self, *args, **kwargs)

        inits[kind] = kind.__init__  # type: ignore[misc]
        return init

    patch.setattr(ThreadPoolExecutor, "submit", submitted)
    patch.setattr(torch, "autocast", cast)
    patch.setattr(torch, "inference_mode", without_gradients)
    patch.setattr(torch.cuda, "get_device_name", lambda _: "second")
    for kind in (torch.optim.Adam, torch.optim.AdamW):
        patch.setattr(kind, "__init__", unfused(kind))
    patch.setattr(blocks, "BATCHED", (SECOND,))
    patch.setenv(blocks.VARIABLE, str(batch))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # what a device computes in several of the tests' threads would wait for one another here
    try:
        with _second_device():
            yield
    finally:
        torch.set_num_threads(threads)
