"""A frozen BERT that turns a text, or word vectors learnt in the place of words, into one vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ltbench.blocks.features.weights import state_sha256

Tokenize = Callable[[str], list[int]]
"""Gives the ids of a text's word pieces, without the marks of its beginning and end."""

Head = Callable[[Tensor, Tensor], Tensor]
"""Makes the vectors (B, D) of a text of its pieces' last states (B, L, width) and of where there are pieces (B, L)."""


class TextEncoder:
    """The text branch. Nothing in it is trained, but gradients pass through it to the word vectors.

    Args:
        bert: `AlignTextModel` or `BertModel` of transformers.
        tokenize: gives the ids of a text's pieces.
        marks: ids of [CLS] and [SEP].
        head: makes vectors of the last states.
        dim: length of a text's vector.
        extra: other weights that its vectors depend on, for `weights_sha256`.

    Attributes:
        width: length of a word vector.
        depth: number of blocks.
        weights_sha256: the sha256 of all weights.
    """

    def __init__(
        self,
        bert: nn.Module,
        tokenize: Tokenize,
        marks: tuple[int, int],
        head: Head,
        dim: int,
        extra: dict[str, Tensor],
    ) -> None:
        self._bert = cast(Any, bert.eval())
        for parameter in self._bert.parameters():
            parameter.requires_grad = False
        self._tokenize, self._head, self.dim = tokenize, head, dim
        self._table: Tensor = self._bert.get_input_embeddings().weight.detach()
        self._first, self._last = (self._table[mark][None] for mark in marks)
        self._marks = marks
        self.width = self._table.shape[1]
        self.depth = len(self._bert.encoder.layer)
        self.weights_sha256 = state_sha256({**self._bert.state_dict(), **extra})

    def words(self, text: str) -> Tensor:
        """Return the vectors (L, width) of a text's pieces in the table of words: before positions, [CLS] and [SEP]."""
        return self._table[torch.tensor(self._tokenize(text), dtype=torch.long, device=self._table.device)].clone()

    @property
    def spread(self) -> float:
        """The standard deviation of all values in the table of words."""
        return float(self._table.std())

    def encode(self, sequences: Sequence[Tensor], deep: Sequence[Tensor] = ()) -> Tensor:
        """Return the vectors (B, dim) of texts given as word vectors, (L, width) each; gradients pass through.

        [CLS] and [SEP] are put around each. Positions and token types are added inside BERT.

        Args:
            sequences: the texts.
            deep: before block i + 1, counted from 0, the i-th of these, (n, width), takes the place of the states of
                the n tokens behind [CLS].
        """
        if deep:
            return torch.cat([self._encode_deep(sequence, deep) for sequence in sequences])
        longest = max(len(sequence) for sequence in sequences) + 2
        rows, present = [], []
        for sequence in sequences:
            padding = self._table.new_zeros(longest - 2 - len(sequence), self.width)
            rows.append(torch.cat([self._first, sequence, self._last, padding]))
            present.append(torch.arange(longest, device=self._table.device) < len(sequence) + 2)
        mask = torch.stack(present).long()
        states = self._bert(inputs_embeds=torch.stack(rows), attention_mask=mask).last_hidden_state
        return self._head(states, mask)

    def _encode_deep(self, sequence: Tensor, deep: Sequence[Tensor]) -> Tensor:
        """Return the vector (1, dim) of one text, block by block: alone, it needs no mask."""
        states = self._bert.embeddings(inputs_embeds=torch.cat([self._first, sequence, self._last])[None])
        for index, block in enumerate(self._bert.encoder.layer):
            if 0 < index <= len(deep):
                own = deep[index - 1][None]
                states = torch.cat([states[:, :1], own, states[:, 1 + own.shape[1] :]], dim=1)
            behind = block(states)
            states = behind[0] if isinstance(behind, tuple) else behind  # transformers 4 gives a tuple
        return self._head(states, torch.ones(states.shape[:2], dtype=torch.long, device=states.device))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the vectors (B, dim) of texts, each by itself and by its ids, as transformers would."""
        first, last = self._marks
        vectors = []
        for text in texts:
            ids = torch.tensor([[first, *self._tokenize(text), last]], device=self._table.device)
            mask = torch.ones_like(ids)
            vectors.append(self._head(self._bert(input_ids=ids, attention_mask=mask).last_hidden_state, mask))
        return torch.cat(vectors)

    def mean_words(self, sequences: Sequence[Tensor]) -> Tensor:
        """Return vectors (B, dim) that leave BERT out: the head is given each text's mean word vector."""
        means = torch.stack([sequence.mean(dim=0) for sequence in sequences])[:, None]
        return self._head(means, torch.ones(means.shape[:2], dtype=torch.long, device=means.device))
