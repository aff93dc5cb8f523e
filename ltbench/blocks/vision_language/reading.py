"""What a method asks an image-text model about an image, whichever model it is: the interface of the family.

A `Reader` gives a pooled code, codes of windows, tokens of chosen blocks, and patches in the space of texts; its `text`
gives vectors of texts. ALIGN, CLIP and the packaged stand-in are readers. `extraction` asks about sets of images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]
Grid = tuple[int, int]
LAST = -1
"""The last block, whatever its number."""


@dataclass(frozen=True, slots=True)
class Views:
    """What is asked about an image. A code always is.

    Args:
        windows: sides in patches of the windows whose codes are wanted; a window lies at each place of the grid.
        tokens: blocks whose patches are wanted as they are, from 1; `LAST` for the last. A network of maps has those
            that it was loaded with.
        normalised_tokens: whether the image tower's last layer norm is applied to them; networks of maps have none.
        local: blocks whose patches are wanted in the space of texts, likewise; of a network of maps the last alone.
        value_blocks: how many of CLIP's last blocks have a stream of value-value attention, of which `local` is then
            taken; 0 for none. Networks of maps have no attention.
        normalised_code: whether the last layer norm is applied to the code.
    """

    windows: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    normalised_tokens: bool = False
    local: tuple[int, ...] = ()
    value_blocks: int = 0
    normalised_code: bool = True


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model says of one image, whose patches lie on a grid.

    Args:
        grid: (height, width) in patches of the last block; a network of maps has another for each (`Reader.grid`).
        code: (D,), in the space of texts.
        windows: side -> (n, D), the windows row by row.
        tokens: block -> (h * w, width), row by row.
        local: block -> (h * w, D), in the space of texts.
    """

    grid: Grid
    code: Array
    windows: Mapping[int, Array] = field(default_factory=dict)
    tokens: Mapping[int, Array] = field(default_factory=dict)
    local: Mapping[int, Array] = field(default_factory=dict)

    @classmethod
    def of(cls, grid: Grid, arrays: Mapping[str, Array]) -> Reading:
        """Return the reading that `arrays` describes."""
        kinds: dict[str, dict[int, Array]] = {"windows": {}, "tokens": {}, "local": {}}
        for name, array in arrays.items():
            kind, _, number = name.partition("/")
            if number:
                kinds[kind][int(number)] = array
        return cls(grid, arrays["code"], **kinds)

    @property
    def arrays(self) -> dict[str, Array]:
        """All of it but the grid by name: "code", "windows/2", "tokens/-1"."""
        kinds = {"windows": self.windows, "tokens": self.tokens, "local": self.local}
        named = {f"{kind}/{number}": array for kind, own in kinds.items() for number, array in own.items()}
        return {"code": self.code, **named}


class Texts(Protocol):
    """The text branch of a model. Nothing in it is trained, but gradients pass through it to what it is given."""

    width: int
    """Length of a word vector."""
    dim: int
    """Length of a text's vector."""
    depth: int
    """Number of blocks."""
    weights_sha256: str

    def words(self, text: str) -> Tensor:
        """Return the vectors (L, width) of a text's pieces, before positions and without marks."""
        ...

    def encode(self, sequences: Sequence[Tensor], deep: Sequence[Tensor] = ()) -> Tensor:
        """Return the vectors (B, dim) of texts given as word vectors (L, width).

        Before block i + 1, counted from 0, the i-th of `deep`, (n, width), takes the place of the states of the n
        tokens behind the first mark.
        """
        ...

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the vectors (B, dim) of texts, each by itself."""
        ...


class Reader(Protocol):
    """A frozen image-text model. Several threads may ask it at once."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def device(self) -> str:
        """Where it is: "cpu", "cuda" or "cuda:N"."""
        ...

    @property
    def text(self) -> Texts:
        """The text branch."""
        ...

    @property
    def workers(self) -> int:
        """How many images to work on at once, each in a thread of its own."""
        ...

    @property
    def batch(self) -> int:
        """How many images its device takes together (`send`), 0 where it takes one after the other (`read`)."""
        ...

    def grid(self, size: tuple[int, int], block: int = LAST) -> Grid:
        """Return (height, width) in patches of an image of (height, width) pixels, behind some block.

        Raises:
            SpecError: an image that it cannot read, or a block that it does not have.
        """
        ...

    def read(self, image: NDArray[np.uint8], views: Views) -> Reading:
        """Return what is asked about one image, (H, W, 3) RGB; it depends on nothing but the image."""
        ...

    def send(self, images: NDArray[np.uint8], views: Views) -> Callable[[int], Reading]:
        """Send `batch` images, (batch, H, W, 3) RGB, to the device, without waiting for it.

        Returns:
            What waits for the reading of one of them, by its place; any thread may call it.
        """
        ...

    def tokens(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Return the patches of some blocks of a batch of images, (B, h * w, width) each, for a loss that needs them.

        Threads and gradients are the caller's concern: a training's step has one thread already, and wants none.

        Args:
            images: (B, H, W, 3) uint8, on the model's device.
            blocks: from 1, or `LAST`, as in `Views.tokens`.

        Raises:
            SpecError: a block that the model does not have.
        """
        ...

    def facts(self) -> dict[str, Any]:
        """Return what a run's record says of the model."""
        ...

    def identity(self) -> str:
        """Return a name of all that can change a bit of a reading: weights, versions and device."""
        ...


def window_places(grid: Grid, side: int) -> NDArray[np.int64]:
    """Return the patches of each window, (n, side * side), counted row by row from 0; windows move by one patch."""
    numbers = np.arange(grid[0] * grid[1]).reshape(grid)
    windows = np.lib.stride_tricks.sliding_window_view(numbers, (side, side))
    return np.ascontiguousarray(windows.reshape(-1, side * side))
