"""The learnt prompts: word vectors before "object." and "damaged object.", and tokens inside the text tower."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ltbench.blocks.vision_language import Texts
from ltbench.errors import SpecError

NORMAL, ABNORMAL = "object.", "damaged object."
"""What follows the learnt words."""

DEVIATION = 0.02
"""Standard deviation of what is learnt, before it is."""


class Prompts(nn.Module):
    """Two prompts that name no object (AnomalyCLIP, section 3.2). 43,008 parameters for CLIP ViT-L/14.

    Args:
        text: the frozen text branch, which is no part of this module.
        length: learnt words of each prompt.
        deep_depth: the last block before which learnt tokens take the place of states, counted from 1; there is none
            before the first block.
        deep_length: learnt tokens before each of these blocks.
        seed: of the values before training.

    Raises:
        SpecError: more depth than the text branch has, or more deep tokens than learnt words.
    """

    def __init__(self, text: Texts, length: int, deep_depth: int, deep_length: int, seed: int) -> None:
        super().__init__()
        if deep_depth > text.depth:
            raise SpecError(f"Expected deep_depth of at most {text.depth}, got {deep_depth}. Lower it.")
        if deep_depth > 1 and deep_length > length:
            raise SpecError(f"Expected deep_length of at most {length} learnt words, got {deep_length}. Lower it.")
        generator = torch.Generator().manual_seed(seed)

        def drawn(count: int) -> nn.Parameter:
            return nn.Parameter(DEVIATION * torch.randn(count, text.width, generator=generator))

        self.normal, self.abnormal = drawn(length), drawn(length)
        self.deep = nn.ParameterList([drawn(deep_length) for _ in range(deep_depth - 1)])

    def vectors(self, text: Texts) -> Tensor:
        """Return the vectors of the normal and the abnormal prompt, (2, D); gradients pass through the text branch."""
        sequences = [
            torch.cat([learnt, text.words(ending).detach()])
            for learnt, ending in ((self.normal, NORMAL), (self.abnormal, ABNORMAL))
        ]
        return text.encode(sequences, list(self.deep))
