"""What can be set in LTAD: the paper's values, and a choice where the paper is silent or at odds with itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from ltbench.blocks.training.learner import Precision
from ltbench.blocks.training.settings import BatchSize
from ltbench.blocks.vision_language import Pixels
from ltbench.method import AddedLater, Probe

from .names import NameStart
from .scores import ImageScore
from .semantics import Pooling, Projection

_SHARED_LAYERS = {"layers": (0, 2)}  # that both models of the check have
_LAYERS = {"decoder_output": "layers"}


@dataclass
class HyperParameters:
    """The hyper-parameters of LTAD, in the order in which they matter."""

    model: Annotated[
        str,
        Field(description="ALIGN's repository or folder, packaged-lite0, -lite1, -lite2, or tiny (for tests)"),
        Probe("packaged-lite0", _SHARED_LAYERS),
    ] = "kakaobrain/align-base"
    layers: Annotated[
        tuple[int, ...], Field(min_length=1, description="image blocks whose maps are taken, from 0"), Probe((0, 1))
    ] = (3, 10, 17, 37)
    pixels: Annotated[Pixels, Field(description="how pixels are normalised; ALIGN was trained on symmetric ones")] = (
        "symmetric"
    )
    stride: Annotated[
        int, Field(ge=1, description="pixels of a patch's side; 16 gives 14x14 patches of 224"), Probe(16)
    ] = 16
    scaling: Annotated[
        Literal["none", "rms"], Field(description="rms divides features by their root mean square in training")
    ] = "none"

    name_start: Annotated[NameStart, Field(description="what names are before they are learnt")] = "object"
    name_length: Annotated[int, Field(ge=1, le=32, description="words of a name")] = 2
    learn_names: Annotated[
        bool, Field(description="whether names are learnt; fixed ones of the dataset keep their own length")
    ] = True
    encode_text: Annotated[
        bool, Field(description="whether BERT reads prompts; else their mean word stands for them")
    ] = True
    normalise_text: Annotated[bool, Field(description="whether texts' vectors are scaled to length 1")] = False
    shuffle_names: Annotated[bool, Field(description="score test images under the name of another category")] = False

    p_real: Annotated[
        float, Field(ge=0, le=1, description="probability that phase 2 sees real features"), Probe(1.0)
    ] = 0.5
    p_real_rule: Annotated[
        Literal["same", "by_count"], Field(description="by_count: a category's images over the largest's, not p_real")
    ] = "same"
    variational: Annotated[bool, Field(description="whether codes are drawn; else an autoencoder")] = True
    conditioned: Annotated[bool, Field(description="whether the decoder is given the name")] = True
    decoder: Annotated[
        Literal["light", "mirror"],
        Field(description="mirror: the image encoder's blocks in reverse"),
        Probe("mirror", _LAYERS),
    ] = "mirror"
    decoder_output: Annotated[
        Literal["layers", "tokens"],
        Field(description="layers: each layer's map in its size; tokens: all on the patches' grid"),
    ] = "layers"
    decoder_width: Annotated[int, Field(ge=8, description="most channels of the light decoder"), Probe(16)] = 256
    decoder_blocks: Annotated[int, Field(ge=1, description="residual blocks a resolution of the light decoder")] = 2
    latent_dim: Annotated[int, Field(ge=0, description="length of the drawn code; 0 for that of the image's")] = 0
    kl_weight: Annotated[float, Field(ge=0, description="factor of the divergence, a mean over the code's values")] = (
        1.0
    )
    synthesis_epochs: Annotated[int, Field(ge=1, description="epochs of phase 1")] = 100
    synthesis_clip_norm: Annotated[
        float, Field(ge=0, description="largest gradient norm in phase 1; 0 for no limit"), Probe(1e-4)
    ] = 0.0

    reconstruct: Annotated[bool, Field(description="whether there is a reconstruction module")] = True
    width: Annotated[int, Field(ge=1, description="channels inside the reconstruction module"), Probe(16)] = 256
    depth: Annotated[int, Field(ge=1, description="layers of its encoder, and of its decoder")] = 4
    heads: Annotated[int, Field(ge=1, description="heads of each attention"), Probe(1)] = 8
    ffn_width: Annotated[int, Field(ge=1, description="channels inside its feed-forward blocks")] = 1024
    dropout: Annotated[float, Field(ge=0, lt=1, description="dropout in training")] = 0.1
    mask_side: Annotated[int, Field(ge=1, description="patches around each that attention may not see"), Probe(1)] = 7
    jitter_scale: Annotated[float, Field(ge=0, description="size of the noise on patches")] = 20.0
    reduction: Annotated[
        Literal["sum", "mean"], Field(description="over the channels of a patch's error, in loss and score")
    ] = "sum"
    error: Annotated[Literal["squared", "root"], Field(description="a patch's error; UniAD takes the root")] = "squared"

    semantic: Annotated[bool, Field(description="whether there are semantic projections")] = True
    projection: Annotated[Projection, Field(description="one projection a layer, or one of the whole patch")] = "layers"
    pooling: Annotated[Pooling, Field(description="how the layers' projections are joined")] = "max"
    temperature: Annotated[float, Field(gt=0, description="tau of the softmax over the two texts")] = 1.0
    normal_prompts: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="words before the name; several are averaged"),
        Probe(("good",)),
    ] = ("a",)
    abnormal_prompts: Annotated[
        tuple[str, ...], Field(min_length=1, description="as normal_prompts, of a defect"), Probe(("a damaged",))
    ] = ("a broken",)
    learn_texts: Annotated[
        bool,
        Field(description="whether phase 2 learns each category's vectors of normal and abnormal; no prompt is read"),
        AddedLater(),
    ] = False
    semantic_weight: Annotated[float, Field(ge=0, description="lambda, the factor of the semantic score")] = 500.0
    balance: Annotated[
        Literal["none", "train"],
        Field(description="train: semantic scores are first scaled to vary as errors do on training images"),
    ] = "none"

    image_score: Annotated[
        ImageScore,
        Field(description="mean: the highest average over 16x16 pixels of the map, as UniAD; max: its highest pixel"),
        AddedLater(),
    ] = "mean"

    epochs: Annotated[int, Field(ge=1, description="epochs of phase 2")] = 500
    batch_size: BatchSize = 8
    learning_rate: Annotated[float, Field(gt=0, description="of AdamW, in both phases")] = 1e-4
    lr_step: Annotated[
        int, Field(ge=0, description="epochs of phase 2 between drops of the rate to a tenth; 0 for none")
    ] = 0
    weight_decay: Annotated[float, Field(ge=0, description="of AdamW, in both phases"), Probe(0.5)] = 1e-4
    clip_norm: Annotated[
        float, Field(ge=0, description="largest gradient norm in phase 2; 0 for no limit"), Probe(1e-4)
    ] = 0.1
    clip_rule: Annotated[
        Literal["module", "joint"],
        Field(description="whether the norm is that of a module's gradient, or of both modules' together"),
        Probe("joint", {"clip_norm": 1e-4}),
    ] = "module"
    precision: Annotated[Precision, Field(description="bfloat16 lets torch use it where it is faster")] = "float32"

    @property
    def needs_first_phase(self) -> bool:
        """Whether phase 2 uses anything of phase 1: synthetic features, or learnt names in the prompts."""
        return self.p_real_rule == "by_count" or self.p_real < 1 or self._reads_learnt_names

    @property
    def _reads_learnt_names(self) -> bool:
        """Whether the semantic module's prompts hold names that phase 1 learns."""
        return self.semantic and self.learn_names and not self.learn_texts
