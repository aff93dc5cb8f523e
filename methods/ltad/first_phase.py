"""Phase 1 of LTAD, kept in the feature store for all runs that differ in phase 2 alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ltbench.blocks.training.learner import Learner, Schedule
from ltbench.blocks.training.loop import train
from ltbench.blocks.vision_language import VisionLanguage
from ltbench.core import sha256_of
from ltbench.errors import SpecError
from ltbench.method import FeatureStore, Runtime

from .data import TrainingFeatures
from .decoders import Branch, LightDecoder, MirrorDecoder, Shape
from .hyper_parameters import HyperParameters
from .names import PseudoNames, starting_names
from .phases import Synthesis
from .synthesis import Synthesiser

PHASE = "synthesis"

DEPENDS_ON = (
    "scaling",
    "stride",
    "name_start",
    "name_length",
    "learn_names",
    "encode_text",
    "normalise_text",
    "variational",
    "conditioned",
    "decoder",
    "decoder_output",
    "decoder_width",
    "decoder_blocks",
    "latent_dim",
    "kl_weight",
    "synthesis_epochs",
    "synthesis_clip_norm",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "precision",
)
"""The hyper-parameters that phase 1 depends on, beside those of the image-text model."""


@dataclass(frozen=True)
class FirstPhase:
    """The training of names and synthesis.

    Args:
        settings: the hyper-parameters.
        model: the frozen image-text model.
        features: of the training images.
        categories: their names, in the order of the indices.
    """

    settings: HyperParameters
    model: VisionLanguage
    features: TrainingFeatures
    categories: tuple[str, ...]

    def trained(self, fingerprints: Sequence[str] | None, runtime: Runtime) -> Synthesis:
        """Return the trained networks: from the store if they are there, else trained now and left there.

        What is trained depends on nothing but what names it in the store, so that sharing changes no number.

        Args:
            fingerprints: of the training images, in order; None where there is no feature store.
            runtime: seed, device, feature store, checkpoints and progress.
        """
        synthesis = self.untrained(runtime)
        if not self.settings.needs_first_phase:
            return synthesis
        store = runtime.feature_store
        if store is None or fingerprints is None:
            self._train(synthesis, runtime)
            return synthesis
        space = self._space(fingerprints, runtime)
        if (stored := store.get(space, PHASE)) is not None:
            _restore(synthesis, stored, runtime)
        else:
            self._train(synthesis, runtime)
            _keep(synthesis, store, space, runtime)
        return synthesis

    def untrained(self, runtime: Runtime) -> Synthesis:
        """Return the networks before training, drawn from the seed."""
        s, text = self.settings, self.model.text
        keeps_length = s.name_start == "dataset" and not s.learn_names
        starts = starting_names(
            self.categories, text, s.name_start, None if keeps_length else s.name_length, runtime.seed
        )
        names = PseudoNames(starts)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(runtime.seed)
            synthesiser = synthesiser_of(s, self.model.code_dim, self._branch)
        synthesis = Synthesis(names, synthesiser, text, encoded=s.encode_text, normalised=s.normalise_text)
        if not (s.learn_names and s.conditioned):
            names.requires_grad_(requires_grad=False)
        return synthesis.to(runtime.device)

    @property
    def _branch(self) -> Branch:
        model, features = self.model, self.features
        shapes = tuple(Shape(*level.shape[1:]) for level in features.maps)
        return Branch(model.stages, model.layer_stages, model.channels, shapes, features.grid)

    def _train(self, synthesis: Synthesis, runtime: Runtime) -> None:
        s = self.settings
        learnt = [parameter for parameter in synthesis.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(learnt, lr=s.learning_rate, weight_decay=s.weight_decay)
        loss = partial(synthesis.loss, self.features, s.kl_weight)
        learner = Learner(PHASE, synthesis, loss, optimiser, s.synthesis_clip_norm)
        schedule = Schedule(s.synthesis_epochs, s.batch_size, precision=s.precision)
        train([learner], len(self.features.categories), schedule, runtime, phase=PHASE)
        losses = runtime.notes["losses"][PHASE]
        losses[PHASE] = np.array(losses[PHASE], np.float32).tolist()  # as the store keeps them

    def _space(self, fingerprints: Sequence[str], runtime: Runtime) -> str:
        named = [self.categories[index] for index in self.features.categories]
        return sha256_of(
            {
                "phase": 1,
                "model": self.model.facts(),
                "features": self.model.images.spaces,
                "settings": {name: getattr(self.settings, name) for name in DEPENDS_ON},
                "images": list(zip(fingerprints, named, strict=True)),
                "seed": runtime.seed,
                "device": runtime.device,
            }
        )[:32]


class PatchMaps(nn.Module):
    """A decoder of one map, whose channels are handed out to the layers."""

    def __init__(self, decoder: LightDecoder, channels: Sequence[int]) -> None:
        super().__init__()
        self.decoder, self.channels = decoder, list(channels)

    def forward(self, vectors: torch.Tensor) -> list[torch.Tensor]:
        """Return one map (B, C, h, w) a layer."""
        (whole,) = self.decoder(vectors)
        return list(torch.split(whole, self.channels, dim=1))


def synthesiser_of(settings: HyperParameters, code_dim: int, branch: Branch) -> Synthesiser:
    """Return the networks that make maps, untrained; without a first phase nothing can be made.

    Args:
        settings: the hyper-parameters.
        code_dim: length of a code and of a text's vector.
        branch: what the decoder imitates.

    Raises:
        SpecError: settings that contradict one another.
    """
    latent = settings.latent_dim or code_dim
    inputs = latent + (code_dim if settings.conditioned else 0)
    decoder = _decoder(settings, inputs, branch) if settings.needs_first_phase else nn.Identity()
    return Synthesiser(code_dim, latent, decoder, variational=settings.variational, conditioned=settings.conditioned)


def _decoder(settings: HyperParameters, inputs: int, branch: Branch) -> nn.Module:
    if settings.decoder_output == "tokens":
        if settings.decoder == "mirror":
            raise SpecError("Expected decoder_output=layers with decoder=mirror, got tokens. Set one of them.")
        whole = Shape(sum(branch.channels), *branch.grid)
        light = LightDecoder(inputs, [whole], settings.decoder_width, settings.decoder_blocks)
        return PatchMaps(light, branch.channels)
    if settings.decoder == "mirror":
        return MirrorDecoder(inputs, branch.stages, branch.taps, branch.shapes)
    return LightDecoder(inputs, branch.shapes, settings.decoder_width, settings.decoder_blocks)


def _keep(synthesis: Synthesis, store: FeatureStore, space: str, runtime: Runtime) -> None:
    arrays: dict[str, NDArray[np.float32]] = {
        name: tensor.detach().cpu().numpy() for name, tensor in synthesis.state_dict().items()
    }
    losses = runtime.notes["losses"][PHASE][PHASE]
    store.put(space, PHASE, arrays | {"losses": np.array(losses, np.float32)})


def _restore(synthesis: Synthesis, stored: Any, runtime: Runtime) -> None:
    arrays = dict(stored)
    losses = [float(loss) for loss in arrays.pop("losses")]
    runtime.notes.setdefault("losses", {})[PHASE] = {PHASE: losses}
    synthesis.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
