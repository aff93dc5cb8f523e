"""The two trainings of LTAD: names and synthesis, then reconstruction and semantics on real and synthetic patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ltbench.blocks.networks.attention import Grid
from ltbench.blocks.networks.reconstruction import Reconstruction
from ltbench.blocks.training.jitter import jitter
from ltbench.blocks.training.learner import Shard
from ltbench.blocks.vision_language import TextEncoder

from .data import TrainingFeatures, to_patches
from .hyper_parameters import HyperParameters
from .names import PseudoNames, text_vectors
from .semantics import LearntTexts, SemanticProjections, abnormal_logits, semantic_loss
from .synthesis import Synthesiser, synthesis_loss


class Synthesis(nn.Module):
    """What phase 1 trains.

    Args:
        names: of the categories.
        synthesiser: makes maps of a code and a name.
        text: the frozen text encoder; no part of the module's state.
        encoded: whether BERT reads names.
        normalised: whether names' vectors are scaled to length 1.
    """

    def __init__(
        self, names: PseudoNames, synthesiser: Synthesiser, text: TextEncoder, *, encoded: bool, normalised: bool
    ) -> None:
        super().__init__()
        self.names, self.synthesiser = names, synthesiser
        self._text, self._encoded, self._normalised = text, encoded, normalised

    def texts(self, categories: Sequence[int]) -> Tensor:
        """Return t_c of some categories, (len(categories), D); gradients pass to the names."""
        present = sorted(set(categories))
        vectors = text_vectors(
            self._text, self.names(present), [""], encoded=self._encoded, normalised=self._normalised
        )
        return vectors[[present.index(category) for category in categories]]

    def loss(self, features: TrainingFeatures, kl_weight: float, shard: Shard) -> Tensor:
        """Return the loss of a shard (`synthesis_loss`)."""
        device = shard.draws.device
        texts = None
        if self.synthesiser.conditioned:
            texts = self.texts(features.categories[shard.indices].tolist())
        maps, divergence = self.synthesiser(features.codes_of(shard.indices).to(device), texts, shard.draws)
        targets = [target.to(device) for target in features.targets_of(shard.indices)]
        return synthesis_loss(maps, targets, divergence, kl_weight)


@dataclass(frozen=True)
class Texts:
    """The texts' vectors of every category, worked out once.

    Args:
        name: t_c, (categories, D).
        normal: t_{n,c}.
        abnormal: t_{a,c}.
    """

    name: Tensor
    normal: Tensor
    abnormal: Tensor


class Detector(nn.Module):
    """What phase 2 trains, and what scores patches.

    Args:
        reconstruction: rebuilds patches, or None.
        projections: take patches into the space of texts, or None.
        learnt: texts' vectors that are learnt here, or None for those of the text encoder.
    """

    def __init__(
        self,
        reconstruction: Reconstruction | None,
        projections: SemanticProjections | None,
        learnt: LearntTexts | None = None,
    ) -> None:
        super().__init__()
        self.reconstruction, self.projections, self.learnt = reconstruction, projections, learnt

    def prompts(self, texts: Texts, categories: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the vectors of "normal" and "abnormal" of some categories: learnt ones, or those of the prompts."""
        if self.learnt is not None:
            pair: tuple[Tensor, Tensor] = self.learnt(categories)
            return pair
        return texts.normal[categories], texts.abnormal[categories]

    def errors(self, patches: Tensor, *, mean: bool) -> Tensor:
        """Return the squared error of each rebuilt patch, (B, N): the sum or the mean over its channels."""
        rebuilt: Tensor = cast(Reconstruction, self.reconstruction)(patches)
        squares = (rebuilt - patches).square()
        return squares.mean(dim=-1) if mean else squares.sum(dim=-1)

    def logits(self, patches: Tensor, normal: Tensor, abnormal: Tensor, temperature: float) -> Tensor:
        """Return the logits of "abnormal" of each patch, (B, N)."""
        vectors = cast(SemanticProjections, self.projections)(patches)
        return abnormal_logits(vectors, normal, abnormal, temperature)


def detector_of(
    settings: HyperParameters, channels: Sequence[int], dim: int, grid: Grid, categories: int, seed: int
) -> Detector:
    """Return the modules that score patches, untrained.

    Args:
        settings: the hyper-parameters.
        channels: of each layer in a patch.
        dim: length of a text's vector.
        grid: (height, width) in patches.
        categories: how many.
        seed: of the weights.
    """
    reconstruction = projections = learnt = None
    if settings.reconstruct:
        reconstruction = Reconstruction(
            sum(channels),
            grid,
            width=settings.width,
            layers=settings.depth,
            heads=settings.heads,
            ffn_width=settings.ffn_width,
            dropout=settings.dropout,
            mask_side=settings.mask_side,
            seed=seed,
        )
    if settings.semantic:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            projections = SemanticProjections(channels, dim, settings.projection, settings.pooling)
        if settings.learn_texts:
            learnt = LearntTexts(categories, dim, seed)
    return Detector(reconstruction, projections, learnt)


@dataclass(frozen=True)
class DetectorTask:
    """The loss of phase 2.

    Args:
        detector: what is trained.
        features: of the training images.
        texts: of the categories.
        synthesiser: makes the synthetic features; frozen, or None where all are real.
        p_real: probability of real features, a category.
        jitter_scale: size of the noise.
        mean: whether errors are means over channels, else sums.
        temperature: tau.
    """

    detector: Detector
    features: TrainingFeatures
    texts: Texts
    synthesiser: Synthesiser | None
    p_real: Sequence[float]
    jitter_scale: float
    mean: bool
    temperature: float

    def patches(self, shard: Shard) -> Tensor:
        """Return the patches (B, N, C) of a shard, real or synthetic by a draw for each image."""
        real = self.features.patches_of(shard.indices).to(shard.draws.device)
        categories = self.features.categories[shard.indices]
        is_real = [shard.draws.uniform() < self.p_real[category] for category in categories]
        chosen = [place for place, kept in enumerate(is_real) if not kept]
        if not chosen:
            return real
        indices = shard.indices[chosen]
        codes = self.features.codes_of(indices).to(shard.draws.device)
        with torch.no_grad():
            texts = self.texts.name[self.features.categories[indices]]
            maps, _ = cast(Synthesiser, self.synthesiser)(codes, texts, shard.draws)
        real[chosen] = to_patches(maps, self.features.grid).float()
        return real

    def loss(self, shard: Shard) -> Tensor:
        """Return the reconstruction loss and the semantic loss of a shard, added (LTAD, section 4)."""
        clean = self.patches(shard)
        noised = jitter(clean, self.jitter_scale, shard.draws)
        loss = clean.new_zeros(())
        if self.detector.reconstruction is not None:
            squares = (self.detector.reconstruction(noised, shard.draws) - clean).square()
            loss = loss + (squares.mean(dim=-1) if self.mean else squares.sum(dim=-1)).mean()
        if self.detector.projections is not None:
            texts = self.detector.prompts(self.texts, self.features.categories[shard.indices].tolist())
            loss = loss + semantic_loss(
                self.detector.logits(clean, *texts, self.temperature),
                self.detector.logits(noised, *texts, self.temperature),
            )
        return loss
