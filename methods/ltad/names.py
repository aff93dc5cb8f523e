"""Names of categories as word vectors, learnt or fixed, and the vectors of prompts about them (LTAD, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from typing import Literal

import torch
from torch import Tensor, nn

from ltbench.blocks.vision_language import TextEncoder

NameStart = Literal["object", "dataset", "random"]
"""What a name is before it is learnt: "object object ...", the dataset's name of the category, or random words."""


class PseudoNames(nn.Module):
    """One name, word vectors of shape (length, width), for each category.

    Each is a parameter of its own: an optimiser leaves the names of categories that a step does not see as they are,
    weight decay included.

    Args:
        starts: the names before training, one a category.
    """

    def __init__(self, starts: Sequence[Tensor]) -> None:
        super().__init__()
        self.vectors = nn.ParameterList([nn.Parameter(start.clone()) for start in starts])

    def forward(self, indices: Sequence[int]) -> list[Tensor]:
        """Return the names of some categories."""
        return [self.vectors[index] for index in indices]


def starting_names(
    categories: Sequence[str], text: TextEncoder, start: NameStart, length: int | None, seed: int = 0
) -> list[Tensor]:
    """Return the names that training starts from.

    Args:
        categories: the dataset's names.
        text: gives word vectors.
        start: where they come from.
        length: words of a name; what is shorter is repeated, what is longer is cut. None keeps a dataset's name as it
            is written.
        seed: seed of random names, whose values have the mean and deviation of the table of words.

    Returns:
        (length, width) a category, on the text encoder's device.
    """
    generator = torch.Generator().manual_seed(seed)
    names = []
    for category in categories:
        words = text.words(spoken(category) if start == "dataset" else "object")
        if start == "random":
            drawn = torch.randn(length or 1, text.width, generator=generator) * text.spread
            words = drawn.to(words.device)
        elif length is not None:
            words = torch.stack(list(islice(cycle(words), length)))
        names.append(words)
    return names


def spoken(category: str) -> str:
    """Return a category's name as words: "metal_nut" is "metal nut"."""
    return category.replace("_", " ").replace("-", " ")


def text_vectors(
    text: TextEncoder,
    names: Sequence[Tensor],
    prompts: Sequence[str],
    *,
    encoded: bool = True,
    normalised: bool = False,
) -> Tensor:
    """Return T([prompt; name]) of each name, (names, D), the mean over the prompts; gradients pass to the names.

    Each text is encoded by itself, so that no vector depends on the other names.

    Args:
        text: the encoder T.
        names: word vectors, (length, width) each.
        prompts: words before the name ("a broken"); "" for none.
        encoded: whether BERT reads them; without, the mean word takes the place of BERT's last state.
        normalised: whether vectors are scaled to length 1 before the mean is taken.
    """
    read = text.encode if encoded else text.mean_words
    openings = [text.words(prompt) for prompt in prompts]
    vectors = torch.stack([torch.cat([read([torch.cat([opening, name])]) for opening in openings]) for name in names])
    return (nn.functional.normalize(vectors, dim=-1) if normalised else vectors).mean(dim=1)
