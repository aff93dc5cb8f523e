"""CLIP as a reader: its image branch gives patches, windows of patches and value-value attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.device import batch_of, download, upload
from ltbench.blocks.features.weights import state_sha256
from ltbench.blocks.switches import reproducible
from ltbench.blocks.vision_language.clip_network import Clip
from ltbench.blocks.vision_language.maps import check_windows
from ltbench.blocks.vision_language.reading import LAST, Grid, Reading, Views, window_places
from ltbench.core import sha256_of
from ltbench.cores import usable_cores
from ltbench.errors import ContractError, SpecError

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""What OpenAI normalised CLIP's images by, and everyone after them."""

Tokenize = Callable[[str], list[int]]
"""Gives the ids of a text's tokens, without its marks."""


class ClipText:
    """CLIP's text branch.

    Args:
        network: both towers.
        tokenize: gives the ids of a text's tokens.
        marks: ids of the marks of a text's beginning and end.

    Attributes:
        width: length of a word vector.
        dim: length of a text's vector.
        depth: number of blocks.
        weights_sha256: the sha256 of the text tower's weights.
    """

    def __init__(self, network: Clip, tokenize: Tokenize, marks: tuple[int, int]) -> None:
        self._network, self._tokenize, self._marks = network, tokenize, marks
        self.width, self.depth = network.shape.text.width, network.shape.text.layers
        self.dim = network.shape.dim
        own = {key: value for key, value in network.state_dict().items() if not key.startswith("visual.")}
        self.weights_sha256 = state_sha256(own)

    def words(self, text: str) -> Tensor:
        """Return the vectors (L, width) of a text's tokens, before positions and without marks."""
        return self._vectors(self._tokenize(text))

    def encode(self, sequences: Sequence[Tensor], deep: Sequence[Tensor] = ()) -> Tensor:
        """Return the vectors (B, dim) of texts given as word vectors, (L, width) each; gradients pass through.

        The marks are put around each. What follows the end mark is not seen by what is before it.

        Raises:
            SpecError: a text of more tokens than the model reads, or more deep tokens than a text has places.
        """
        first, last = (self._vectors([mark]) for mark in self._marks)
        longest = max(len(sequence) for sequence in sequences) + 2
        if longest > (context := self._network.shape.context):
            raise SpecError(f"Expected texts of at most {context} tokens, got {longest}. Shorten the names or prompts.")
        if deep and max(len(tokens) for tokens in deep) > min(len(sequence) for sequence in sequences):
            raise SpecError("Expected at most as many deep tokens as a text has, got more. Lower their length.")
        rows = []
        for sequence in sequences:
            padding = sequence.new_zeros(longest - 2 - len(sequence), self.width)
            rows.append(torch.cat([first, sequence, last, padding]))
        ends = torch.tensor([len(sequence) + 1 for sequence in sequences], device=first.device)
        return self._network.text(torch.stack(rows), ends, deep)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the vectors (B, dim) of texts, each by itself."""
        return torch.cat([self.encode([self.words(text)]) for text in texts])

    def _vectors(self, ids: Sequence[int]) -> Tensor:
        table = self._network.token_embedding.weight
        return table[torch.tensor(ids, dtype=torch.long, device=table.device)]


@dataclass(frozen=True)
class ClipReader:
    """CLIP with weights; made by `load_clip` or `clip_reader`.

    Args:
        name: of the model.
        network: both towers, frozen, in evaluation mode, on the device.
        text: the text branch.
        device: "cpu", "cuda" or "cuda:N".
        origin: what more a record says of where the weights come from.
    """

    name: str
    network: Clip
    text: ClipText
    device: str
    origin: dict[str, Any]

    @property
    def workers(self) -> int:
        """How many images to work on at once, each in a thread of its own."""
        return torch.get_num_threads() if torch.device(self.device).type == "cpu" else usable_cores()

    @cached_property
    def batch(self) -> int:
        """How many images its device takes together, 0 where it takes one after the other."""
        return batch_of(torch.device(self.device))

    def grid(self, size: tuple[int, int], block: int = LAST) -> Grid:
        """Return (height, width) in patches, the same for all blocks; what fills no patch is left out."""
        self._block(block)
        patch = self.network.shape.patch
        if min(size) < patch:
            raise SpecError(f"Expected images of at least {patch} pixels, got {size[0]}x{size[1]}. Raise side.")
        return size[0] // patch, size[1] // patch

    def read(self, image: NDArray[np.uint8], views: Views) -> Reading:
        """Return what is asked about one image.

        Raises:
            ContractError: an array that is no (H, W, 3) uint8 image.
            SpecError: a block that the model does not have, or windows larger than the grid.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ContractError(f"Expected an (H, W, 3) uint8 image, got {image.shape} {image.dtype}. Convert it.")
        grid, device = self._grid(image.shape[:2], views), torch.device(self.device)
        with torch.inference_mode(), reproducible(device):
            answers = self._answers(torch.tensor(image, device=device)[None], views, grid)
            return Reading.of(grid, {name: _array(values) for name, values in answers.items()})

    def send(self, images: NDArray[np.uint8], views: Views) -> Callable[[int], Reading]:
        """Send `batch` images, (batch, H, W, 3), to the device, and return what waits for the reading of each.

        Raises:
            SpecError: a block that the model does not have, or windows larger than the grid.
        """
        grid, device = self._grid(images.shape[1:3], views), torch.device(self.device)
        with torch.inference_mode(), reproducible(device):
            answers = self._answers(upload(images, device), views, grid)
            wait = download(list(answers.values()))
        return lambda place: Reading.of(grid, {name: own[place] for name, own in zip(answers, wait(), strict=True)})

    def tokens(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Return the patches of some blocks of a batch of images, (B, h * w, width) each."""
        tower = self.network.visual
        states = tower.states(tower.embed(self._pixels(images)))
        return [states[self._block(block)][:, 1:] for block in blocks]

    def _pixels(self, images: Tensor) -> Tensor:
        """Return images (B, H, W, 3) as the tower wants them, (B, 3, H, W)."""
        mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (MEAN, STD))
        return (images.permute(0, 3, 1, 2) / 255 - mean) / std

    def _grid(self, size: tuple[int, ...], views: Views) -> Grid:
        grid = self.grid((size[0], size[1]))
        check_windows(views, grid)
        return grid

    def _answers(self, images: Tensor, views: Views, grid: Grid) -> dict[str, Tensor]:
        """Return what is asked about images (B, H, W, 3) by the names of a reading's arrays, (B, ...) each."""
        tower = self.network.visual
        embedded = tower.embed(self._pixels(images))
        states = tower.states(embedded)
        streams = dict(enumerate(states))
        if views.value_blocks:
            first = len(states) - views.value_blocks
            streams |= dict(enumerate(tower.local(states, views.value_blocks), start=first))
        windows = {
            side: tower.windows(embedded, torch.tensor(window_places(grid, side), device=images.device))
            for side in views.windows
        }
        tokens = {block: states[self._block(block)][:, 1:] for block in views.tokens}
        if views.normalised_tokens:
            tokens = {block: tower.ln_post(found) for block, found in tokens.items()}
        local = {block: tower.aligned(streams[self._block(block)]) for block in views.local}
        code = tower.code(states[-1], normalised=views.normalised_code)
        kinds = {"windows": windows, "tokens": tokens, "local": local}
        return {"code": code, **{f"{kind}/{number}": own for kind, k in kinds.items() for number, own in k.items()}}

    def _block(self, block: int) -> int:
        layers = self.network.shape.vision.layers
        if block != LAST and not 1 <= block <= layers:
            raise SpecError(f"Expected blocks from 1 to {layers}, or {LAST} for the last, got {block}. Choose another.")
        return layers if block == LAST else block

    def facts(self) -> dict[str, Any]:
        """Return what a run's record says of the model."""
        return {
            "name": self.name,
            "image_weights_sha256": self.image_weights_sha256,
            "text_weights_sha256": self.text.weights_sha256,
            **self.origin,
        }

    @cached_property
    def image_weights_sha256(self) -> str:
        """The sha256 of the image tower's weights."""
        return state_sha256(self.network.visual.state_dict())

    def identity(self) -> str:
        """Return a name of all that can change a bit of a reading."""
        return sha256_of(
            {
                "clip": 2,
                "image": self.image_weights_sha256,
                "text": self.text.weights_sha256,
                "shape": str(self.network.shape),
                "torch": torch.__version__,
                "device": _processor(self.device),
                **({"batch": self.batch} if self.batch else {}),
            }
        )


def clip_reader(
    name: str,
    network: Clip,
    tokenize: Tokenize,
    marks: tuple[int, int],
    device: str = "cpu",
    origin: dict[str, Any] | None = None,
) -> ClipReader:
    """Make a reader of a network with weights; it is frozen and moved to the device."""
    network = network.eval().requires_grad_(requires_grad=False).to(device)
    return ClipReader(name, network, ClipText(network, tokenize, marks), device, origin or {})


def _processor(device: str) -> str:
    if torch.device(device).type == "cpu":
        return f"cpu {torch.backends.cpu.get_cpu_capability()}"
    return torch.cuda.get_device_name(device)


def _array(values: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(values[0].float().cpu().numpy())
