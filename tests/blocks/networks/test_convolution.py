import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ltbench.blocks.networks.convolution import Convolution
from ltbench.blocks.threads import torch_on_one_thread


def _trained(kind: type[nn.Conv2d], images: Tensor, threads: int, *, first: bool) -> list[Tensor]:
    """Return what a layer makes on one thread of a process with `threads` of torch, and the gradients."""
    layer = kind(images.shape[1], 16, 3, padding=1)
    for number, parameter in enumerate(layer.parameters()):
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    given = images.clone().requires_grad_(not first)
    usual = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch_on_one_thread():
            found = layer(given)
            wanted = [*layer.parameters(), *([] if first else [given])]
            return [found, *torch.autograd.grad((found * found.detach().cos()).sum(), wanted)]
    finally:
        torch.set_num_threads(usual)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("count", [1, 3, 4, 7, 8])
def test_numbers_are_torchs_on_one_thread_whatever_the_threads(count: int, first: bool) -> None:
    images = torch.randn(count, 48, 48, 8, generator=torch.Generator().manual_seed(9)).permute(0, 3, 1, 2)
    wanted = _trained(nn.Conv2d, images, 1, first=first)
    for threads in (1, 2, 3):
        found = _trained(Convolution, images, threads, first=first)
        for own, torchs in zip(found, wanted, strict=True):
            assert torch.equal(own, torchs)
            assert own.stride() == torchs.stride()


def test_two_threads_share_a_large_convolution_in_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set[str]()
    plain = torch.nn.functional.conv2d

    def noted(*args: Any, **kwargs: Any) -> Tensor:
        seen.add(threading.current_thread().name)
        return plain(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "conv2d", noted)
    images = torch.rand(8, 8, 64, 64)
    _trained(Convolution, images, 2, first=True)
    assert len(seen) == 2
    seen.clear()
    with torch.inference_mode(), torch_on_one_thread():
        Convolution(8, 16, 3, padding=1)(images)
    _trained(Convolution, images[:, :, :8, :8], 2, first=True)
    assert len(seen) <= 1
