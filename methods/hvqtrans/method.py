"""HVQ-Trans (Lu et al., NeurIPS 2023), as RuiyingLu/HVQ-Trans computes it; README.md says what is open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import tee
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from ltbench.blocks.each_image import at_hand, each_image, gathered
from ltbench.blocks.features.pyramids import channels_of
from ltbench.blocks.features.tokens import TokenExtractor, aligned, grid_of, root_mean_square
from ltbench.blocks.maps import upsample
from ltbench.blocks.networks.attention import Grid
from ltbench.blocks.state import load_state, packed, save_state, unpacked
from ltbench.blocks.training import loop as training
from ltbench.blocks.training.learner import Learner, Schedule, Shard
from ltbench.core import Prediction
from ltbench.errors import SpecError
from ltbench.method import ImageCounts, ImageSet, MemoryEstimate, Method, MethodInfo, Runtime

from .estimate import estimated
from .hyper_parameters import HyperParameters
from .live import LiveBackbone
from .net import HVQNetwork
from .start import ITERATIONS, start_from_tokens

USUAL_CATEGORIES = 15
"""MVTec AD's: what `trainable_parameters` counts before there are training images."""

ONE = "any"
"""What the only set of codebooks is called with `categories=one`."""


@dataclass
class HVQTrans(HyperParameters):
    """A transformer rebuilds features from its category's codes; a token scores by what no code could give."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "hvqtrans", "HVQ-Trans", paper="NeurIPS 2023, arXiv:2310.14228", uses_categories=True
    )

    network_: HVQNetwork = field(init=False, repr=False)
    categories_: tuple[str, ...] = field(init=False, repr=False)
    centroids_: NDArray[np.float32] = field(init=False, repr=False)
    scale_: float = field(init=False, repr=False)
    grid_: Grid = field(init=False, repr=False)
    seed_: int = field(init=False, repr=False)

    @property
    def run_info(self) -> MethodInfo:
        """What the method is with these hyper-parameters: one set of codebooks asks for no category."""
        told = {"given": (True, False), "nearest": (False, True), "one": (False, False)}[self.categories]
        return replace(self.info, uses_categories=told[0], uses_training_categories=told[1])

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Train the transformer and the codebooks on the tokens of all training images.

        Raises:
            SpecError: image sides that are no multiples of `token_stride`, or shorter than `pool_side`; settings that
                exclude one another.
        """
        self._check(train.size)
        names = [ONE] * len(train) if self.categories == "one" else list(train.categories)
        self.categories_ = tuple(sorted(set(names)))
        labels = [self.categories_.index(name) for name in names]
        self._lend(runtime, grid_of(train.size, self.token_stride))
        (tokens,) = self._extractor.on_disk(train)
        self.scale_ = root_mean_square(tokens) if self.normalise else 1.0
        self.centroids_ = centroids(tokens, labels)
        self.network_ = self._network(tokens.shape[2], self.grid_, len(self.categories_), runtime.seed)
        if self.codebook_start != "normal":
            iterations = ITERATIONS if self.codebook_start == "kmeans" else 0
            start_from_tokens(self.network_, tokens, self.scale_, labels, iterations=iterations, seed=runtime.seed)
        self.network_.to(runtime.device)
        self._train(train, tokens, labels, runtime)
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Score tokens by their distance from what was rebuilt and from codes, images by the averaged map's maximum.

        Raises:
            SpecError: images of another size than in training, or of a category that was not in it.
        """
        if (grid := grid_of(images.size, self.token_stride)) != self.grid_:
            raise SpecError(f"Expected images of {self.grid_} tokens as in training, got {grid}. Fit it anew.")
        networks = [partial(self._differences, index) for index in range(len(self.categories_))]
        tokens, categories = tee(self._tokens_and_categories(images))
        results = each_image(
            at_hand((own,) for own, _ in tokens),
            (networks[category] for _, category in categories),
            lambda made: map_and_score(made[0], images.size, self.pool_side),
            torch.device(self._device),
        )
        return gathered(results, len(images), images.size)

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters, the network, codebooks included, and what else was learnt."""
        arrays = {f"network.{name}": tensor.cpu().numpy() for name, tensor in self.network_.state_dict().items()}
        if self._live is not None:
            state = self._live.network.state_dict()
            arrays |= {f"backbone.{name}": tensor.cpu().numpy() for name, tensor in state.items()}
        facts = {"scale": self.scale_, "grid": self.grid_, "seed": self.seed_, "centroids": self.centroids_}
        arrays |= {name: np.array(value) for name, value in facts.items()}
        arrays["categories"] = packed(self.categories_)
        save_state(folder, self, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        method, state = load_state(cls, folder)
        method._lend(Runtime(seed=state["seed"].item()), tuple(state["grid"].tolist()))
        method.scale_, method.centroids_ = state["scale"].item(), state["centroids"]
        method.categories_ = tuple(unpacked(state["categories"]))
        weights = _under("network.", state)
        channels = weights["input.weight"].shape[1]
        method.network_ = method._network(channels, method.grid_, len(method.categories_), seed=0)
        method.network_.load_state_dict(weights)
        if method._live is not None:
            method._live.network.load_state_dict(_under("backbone.", state))
        return method

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what features, training and scoring will take; large arrays lie in files in any case."""
        grid, channels = grid_of(images.size, self.token_stride), sum(channels_of(self.backbone, self.layers))
        network = self._network(channels, grid, 1 if self.categories == "one" else len(images.train), seed=0).to("meta")
        live = self.backbone_statistics == "train"
        return estimated(
            network, (grid[0] * grid[1], channels), self.backbone, self.layers, self.batch_size, images, live=live
        )

    def trainable_parameters(self, size: tuple[int, int]) -> int:
        """Return the number of trained parameters for images of this size; each category has a head of its own.

        The categories are those of the training images, or before there are any, the 15 of MVTec AD.
        """
        usual = 1 if self.categories == "one" else USUAL_CATEGORIES
        categories = len(self.categories_) if hasattr(self, "categories_") else usual
        channels = sum(channels_of(self.backbone, self.layers))
        network = self._network(channels, grid_of(size, self.token_stride), categories, seed=0)
        return sum(parameter.numel() for parameter in network.parameters())

    def _check(self, size: tuple[int, int]) -> None:
        if self.pool_side > min(size):
            raise SpecError(f"Expected pool_side of at most {min(size)} pixels, got {self.pool_side}. Lower it.")
        if self.categories == "nearest" and self.backbone_statistics == "train":
            raise SpecError(
                "Expected features that stay as they are to guess categories by, got backbone_statistics=train. "
                "Set categories=given, categories=one or backbone_statistics=eval."
            )

    def _lend(self, runtime: Runtime, grid: Grid) -> None:
        self.seed_, self.grid_ = runtime.seed, grid
        self._device = runtime.device
        self._extractor = self._extractor_of(runtime)
        self._live: LiveBackbone | None = None
        self._predictor = self._extractor
        if self.backbone_statistics == "train":  # its maps change, so that none may be stored
            self._predictor = self._extractor_of(replace(runtime, feature_store=None))
            self._live = LiveBackbone(self._predictor.backbone, grid, self.statistics_momentum, self.drop_connect)

    def _extractor_of(self, runtime: Runtime) -> TokenExtractor:
        grid = self.grid_
        return TokenExtractor(
            self.backbone,
            self.layers,
            self.weights,
            tokens=partial(aligned, grid=grid),
            recipe=f"levels {list(self.layers)} aligned corner on corner to {grid[0]}x{grid[1]}, concatenated",
            runtime=runtime,
            precision=self.backbone_precision,
        )

    def _network(self, channels: int, grid: Grid, categories: int, seed: int) -> HVQNetwork:
        return HVQNetwork(channels, grid, categories, self.network_settings, seed)

    def _train(self, train: ImageSet, tokens: NDArray[np.float32], labels: Sequence[int], runtime: Runtime) -> None:
        live, trained = self._live, nn.ModuleDict({"network": self.network_})
        if live is not None:
            trained["backbone"] = live.network  # so that its statistics are in the checkpoint
        optimiser = torch.optim.AdamW(
            self.network_.parameters(), self.learning_rate, weight_decay=self.weight_decay, fused=True
        )

        def loss(shard: Shard) -> Tensor:
            if live is None:
                seen = torch.tensor(tokens[shard.indices], device=self._device)
            else:
                seen = live.tokens([train[int(index)] for index in shard.indices], shard.draws)
            return self._loss(seen / self.scale_, [labels[index] for index in shard.indices], shard)

        learner = Learner(
            "hvqtrans", trained, loss, optimiser, self.clip_norm, shards="coupled" if live is None else "one"
        )
        schedule = Schedule(self.epochs, self.batch_size, self.lr_step, self.lr_gamma, self.precision)
        training.train([learner], len(tokens), schedule, runtime, method=self)

    def _loss(self, clean: Tensor, labels: Sequence[int], shard: Shard) -> Tensor:
        """Return the mean squared difference of what was rebuilt, plus the weighted distance from the codes.

        The quantisers of the step's shards take turns, so that an image sees what all before it in the batch left.
        """
        rebuilt, quantised = self.network_(clean, labels, shard.draws, shard.turn())
        loss: Tensor = (rebuilt.float() - clean).square().mean() + self.latent_weight * quantised.latent
        return loss

    def _told(self, images: ImageSet) -> list[int] | None:
        """Return the category of each image as an index, or None where it is to be guessed."""
        if self.categories == "nearest":
            return None
        if self.categories == "one":
            return [0] * len(images)
        names = images.categories
        unknown = sorted(set(names) - set(self.categories_))
        if unknown:
            raise SpecError(
                f"Expected a category of the training images, got {unknown[0]!r}, which has no codebooks. "
                "Train on it too, or set categories=nearest or categories=one."
            )
        return [self.categories_.index(name) for name in names]

    def _nearest(self, tokens: NDArray[np.float32]) -> int:
        """Return the category whose training images' mean token is nearest to this image's, as an index."""
        distances = np.square(self.centroids_ - tokens.mean(axis=0, dtype=np.float64)).sum(axis=1)
        return int(distances.argmin())

    def _tokens_and_categories(self, images: ImageSet) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Yield the tokens of each image, and the index of the category that it is told, or taken, to be of."""
        told = self._told(images)
        for index, (tokens,) in enumerate(self._predictor.extract(images)):
            yield tokens, self._nearest(tokens) if told is None else told[index]

    def _differences(self, category: int, tokens: list[Tensor]) -> list[Tensor]:
        """Return what tokens of one category differ by, (B, h, w), in the features' units, whatever divided them."""
        clean = tokens[0] / self.scale_
        categories = [category] * len(clean)
        rebuilt, quantised = self.network_(clean, categories)
        found = self.scale_ * (rebuilt - clean).square().sum(dim=2).sqrt()
        if self.ot_weight:
            found = found + self.ot_weight * self.network_.prototype_scores(quantised.lowest, categories)
        return [found.view(-1, *self.grid_)]


def map_and_score(
    token_map: NDArray[np.float32], size: tuple[int, int], pool_side: int
) -> tuple[float, NDArray[np.float32]]:
    """Return an image's score and map (H, W): resized bilinearly, corners on corners; averaged, its maximum taken.

    Args:
        token_map: (h, w).
        size: (H, W) of the image.
        pool_side: side of the square over which the map is averaged, in pixels.
    """
    anomaly_map = upsample(token_map, size, align_corners=True)
    return F.avg_pool2d(torch.from_numpy(anomaly_map)[None], pool_side, stride=1).max().item(), anomaly_map


def centroids(tokens: NDArray[np.float32], labels: Sequence[int]) -> NDArray[np.float32]:
    """Return the mean token of each category's images, (categories, C), read image by image and added in float64.

    Args:
        tokens: (N, L, C).
        labels: category of each image, from 0 and without gaps.
    """
    means = np.stack([image.mean(axis=0, dtype=np.float64) for image in tokens])
    own = np.asarray(labels)
    return np.stack([means[own == category].mean(axis=0) for category in range(own.max() + 1)]).astype(np.float32)


def _under(prefix: str, state: dict[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): torch.tensor(array) for key, array in state.items() if key.startswith(prefix)}


METHOD: type[Method] = HVQTrans
