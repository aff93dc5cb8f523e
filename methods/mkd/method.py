"""MKD (Salehi et al., CVPR 2021, arXiv 2011.11108), as rohban-lab/Knowledge_Distillation_AD has it; see README.md."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Annotated, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ltbench.blocks.device import Arrays
from ltbench.blocks.each_image import Row, each_image, gathered, readers
from ltbench.blocks.features.backbones import Backbone, load_backbone
from ltbench.blocks.features.pyramids import channels_of
from ltbench.blocks.features.settings import Backbone as BackboneName
from ltbench.blocks.features.settings import Layers, SmoothingSigma, Weights
from ltbench.blocks.features.tokens import root_mean_square, stack_on_disk
from ltbench.blocks.maps import at_size
from ltbench.blocks.pixels import resized
from ltbench.blocks.state import load_state, save_state
from ltbench.blocks.switches import reproducible
from ltbench.blocks.training import loop as training
from ltbench.blocks.training.learner import Learner, Schedule, Shard
from ltbench.blocks.training.settings import BatchSize, Epochs
from ltbench.core import Prediction
from ltbench.cores import in_order
from ltbench.errors import SpecError
from ltbench.method import ImageCounts, ImageSet, MemoryEstimate, Method, MethodInfo, Probe, Runtime

from .estimate import estimated
from .localisation import (
    AT_ONCE,
    Localisation,
    Map,
    MapNorm,
    anomaly_map,
    gradients,
    grey,
    magnitudes_of,
    noise_deviation,
    noisy_grey,
)
from .net import COMPARED, SCORED, STRIDE, Student, discrepancies


@dataclass
class MKD:
    """A student learns a frozen network's layers on normal images; an image scores by how much it fails."""

    info: ClassVar[MethodInfo] = MethodInfo("mkd", "MKD", paper="arXiv:2011.11108")

    backbone: BackboneName = "vgg16.tv_in1k"
    weights: Weights = "pretrained"
    layers: Annotated[
        Layers, Field(description="feature levels of the teacher, four, finest first"), Probe((0, 1, 2, 3))
    ] = (1, 2, 3, 4)
    rectify: Annotated[bool, Field(description="take negative values of the teacher as 0")] = False
    scale: Annotated[bool, Field(description="divide each level by its RMS over the training images")] = False
    normalise: Annotated[bool, Field(description="normalise images as the teacher's training did")] = False
    side: Annotated[int, Field(ge=64, multiple_of=STRIDE, description="pixels of the square input"), Probe(96)] = 128
    width: Annotated[int, Field(ge=1, description="channels of the student's uncompared layers"), Probe(5)] = 16
    value_weight: Annotated[
        float, Field(ge=0, description="lambda: of squared differences beside 1 - cosine"), Probe(0.0)
    ] = 0.5
    epochs: Annotated[
        Epochs, Field(description="passes over the training images, without iterations"), Probe(2, {"iterations": 0})
    ] = 601
    iterations: Annotated[int, Field(ge=0, description="steps, whatever the epochs; 0 for whole epochs"), Probe(3)] = 0
    batch_size: Annotated[BatchSize, Probe(3)] = 64
    learning_rate: Annotated[float, Field(gt=0, description="of Adam"), Probe(0.0003)] = 1e-3
    localisation: Annotated[
        Localisation, Field(description="guided back-propagation, plain gradients, or those of noisy copies")
    ] = "guided"
    map_norm: Annotated[MapNorm, Field(description="stretch each image's map to 0..1, as the authors do, or not")] = (
        "per_image"
    )
    noise_draws: Annotated[
        int, Field(ge=1, description="noisy copies of smooth_grad"), Probe(2, {"localisation": "smooth_grad"})
    ] = 50
    noise_scale: Annotated[
        float, Field(ge=0, description="of smooth_grad"), Probe(0.5, {"localisation": "smooth_grad"})
    ] = 0.05
    smoothing_sigma: SmoothingSigma = 4.0

    student_: Student = field(init=False, repr=False)
    scales_: tuple[float, ...] = field(init=False, repr=False)
    seed_: int = field(init=False, repr=False)

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Train the student on the teacher's layers, which are computed once for each image.

        Raises:
            SpecError: levels that are not four, or not of the sides of the student's.
        """
        self._lend(runtime)
        images, layers = self._taught(train, runtime)
        self.scales_ = tuple(root_mean_square(layer) if self.scale else 1.0 for layer in layers)
        self.student_ = self._student()
        self.student_.draw_weights(runtime.seed)
        self.student_.to(self._device)
        optimiser = torch.optim.Adam(self.student_.parameters(), self.learning_rate, fused=True)
        learner = Learner("mkd", self.student_, partial(self._loss, images, layers), optimiser, shards="one")
        schedule = Schedule(self.epochs, self.batch_size, steps=self.iterations)
        training.train([learner], len(train), schedule, runtime, method=self)
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Score an image by the student's failure on the last three layers, and pixels by the gradient of that."""
        self.student_.eval()
        rows = readers(images, partial(resized, side=self.side))
        if self.localisation == "smooth_grad":  # an image's noisy copies go together already
            tasks = (partial(self._score_with_noise, images.size, row) for row in rows)
            return gathered(in_order(tasks, self._backbone.workers), len(images), images.size)
        finish = partial(self._finished, images.size)
        results = each_image(rows, repeat(self._scored), finish, self._device, gradients=True)
        return gathered(results, len(images), images.size)

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters, the student, the layers' scales and the seed."""
        arrays = {f"student.{name}": tensor.cpu().numpy() for name, tensor in self.student_.state_dict().items()}
        save_state(folder, self, arrays | {"scales": np.array(self.scales_), "seed": np.array(self.seed_)})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; the teacher's weights come from where they came from."""
        method, state = load_state(cls, folder)
        method._lend(Runtime(seed=state.pop("seed").item()))
        method.scales_ = tuple(state.pop("scales").tolist())
        method.student_ = method._student()
        method.student_.load_state_dict(
            {name.removeprefix("student."): torch.tensor(array) for name, array in state.items()}
        )
        return method

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what features, training and scoring will take; large arrays lie in files in any case."""
        with torch.device("meta"):
            student = Student(channels_of(self.backbone, self.layers), self.width)
        copies = AT_ONCE if self.localisation == "smooth_grad" else 0
        return estimated(student, self.backbone, self.layers, self.side, self.batch_size, images, copies)

    def trainable_parameters(self, size: tuple[int, int]) -> int:
        """Return the number of trained parameters, the same for images of any size."""
        student = Student(channels_of(self.backbone, self.layers), self.width)
        return sum(parameter.numel() for parameter in student.parameters())

    def _lend(self, runtime: Runtime) -> None:
        if len(self.layers) != COMPARED:
            raise SpecError(
                f"Expected {COMPARED} layers, got {list(self.layers)}. Give for instance -p layers=[1,2,3,4]."
            )
        self.seed_, self._device = runtime.seed, torch.device(runtime.device)
        self._backbone: Backbone = load_backbone(self.backbone, self.layers, self.weights, runtime.device, runtime.seed)
        self._mean, self._std = (
            torch.tensor(values, device=self._device).view(3, 1, 1)
            for values in (self._backbone.mean, self._backbone.std)
        )
        runtime.notes["backbone"] = {
            "name": self.backbone,
            "layers": list(self.layers),
            "weights": self.weights,
            "weights_sha256": self._backbone.weights_sha256,
        }

    def _student(self) -> Student:
        with torch.random.fork_rng(devices=[]):  # torch draws weights of its own, which are replaced
            return Student(self._backbone.channels, self.width)

    def _teacher(self, images: Tensor) -> list[Tensor]:
        """Return the compared layers of images (B, 3, S, S) as the networks see them; not scaled yet.

        A level of twice the side of the student's layer, as VGG's before its pools, is pooled.
        """
        found = self._backbone.network(images.contiguous(memory_format=torch.channels_last))
        wanted = [self.side // 2**power for power in range(2, 2 + COMPARED)]
        times = [level.shape[3] / side for level, side in zip(found, wanted, strict=True)]
        if not set(times) <= {1, 2}:
            raise SpecError(
                f"Expected levels of {wanted} places a side or of twice as many, got "
                f"{[level.shape[3] for level in found]} of {self.backbone}. Change layers."
            )
        found = [F.max_pool2d(level, 2) if by == 2 else level for level, by in zip(found, times, strict=True)]
        return [level.relu() for level in found] if self.rectify else found

    def _taught(self, train: ImageSet, runtime: Runtime) -> tuple[NDArray[np.uint8], Sequence[NDArray[np.float32]]]:
        """Return the images at the networks' size and the teacher's layers of each, in files mapped into memory."""
        images = np.empty((len(train), self.side, self.side, 3), np.uint8)

        def read(place: int) -> tuple[NDArray[np.uint8]]:
            images[place] = resized(train[place], self.side)
            return (images[place],)

        def taught(rows: list[Tensor]) -> list[Tensor]:
            return self._teacher(self._seen(rows[0]))

        found = each_image((partial(read, place) for place in range(len(train))), repeat(taught), tuple, self._device)
        rows = runtime.progress.track(found, "features", len(train))
        return images, stack_on_disk(rows, len(train), runtime.checkpoints)

    def _seen(self, pixels: Tensor) -> Tensor:
        """Return images (B, S, S, 3) as the networks see them, (B, 3, S, S)."""
        images = pixels.permute(0, 3, 1, 2).float() / 255
        return (images - self._mean) / self._std if self.normalise else images

    def _loss(self, images: NDArray[np.uint8], layers: Sequence[NDArray[np.float32]], shard: Shard) -> Tensor:
        """Return the student's mean failure on all four layers."""
        wanted = [
            torch.from_numpy(layer[shard.indices]).to(self._device) / scale
            for layer, scale in zip(layers, self.scales_, strict=True)
        ]
        self.student_.train()
        made = self.student_(self._seen(torch.from_numpy(images[shard.indices]).to(self._device)))
        return discrepancies(made, wanted, self.value_weight).mean()

    def _failure(self, images: Tensor) -> Tensor:
        """Return the score of images (B, 3, S, S), (B); its gradient passes through both networks."""
        wanted = [layer / scale for layer, scale in zip(self._teacher(images), self.scales_, strict=True)]
        made = self.student_(images, guided=self.localisation == "guided")
        return discrepancies(made[-SCORED:], wanted[-SCORED:], self.value_weight)

    def _scored(self, rows: list[Tensor]) -> list[Tensor]:
        """Return the scores (B,) of images (B, S, S, 3), and the magnitudes of their gradients, (B, S, S)."""
        seen = self._seen(rows[0]).contiguous()
        return [self._failure(seen), magnitudes_of(gradients(self._failure, seen))]

    def _finished(self, size: tuple[int, int], made: Arrays) -> tuple[float, Map]:
        """Return the score and the map (H, W) of an image."""
        score, magnitudes = made
        return float(score), self._map(grey(magnitudes, self.map_norm), size)

    def _score_with_noise(self, size: tuple[int, int], row: Callable[[], Row]) -> tuple[float, Map]:
        """Return the score and the map (H, W) of an image, by the gradients of noisy copies of it."""
        (pixels,) = row()
        seen = self._seen(torch.tensor(pixels, device=self._device)[None])[0]
        deviation = noise_deviation(seen, self.noise_scale)
        rng = np.random.default_rng((self.seed_, zlib.crc32(pixels.tobytes())))  # whatever images stand beside it

        def noise(count: int) -> Tensor:
            drawn = rng.standard_normal((count, *seen.shape), dtype=np.float32)
            return torch.from_numpy(drawn).to(self._device) * deviation

        with reproducible(self._device, gradients=True):
            with torch.inference_mode():
                score = self._failure(seen[None]).item()
            gradients_of = partial(gradients, self._failure)
            found = noisy_grey(gradients_of, seen, noise, norm=self.map_norm, draws=self.noise_draws)
        return score, self._map(found, size)

    def _map(self, found: Map, size: tuple[int, int]) -> Map:
        """Return the map (H, W) that a grey one at the networks' size makes."""
        finished = anomaly_map(found, localisation=self.localisation, norm=self.map_norm, sigma=self.smoothing_sigma)
        return at_size(finished, size)


METHOD: type[Method] = MKD
