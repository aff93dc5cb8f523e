"""ImageBind-Huge's image and text towers under the names of CLIP, whose structure they have.

Girdhar et al., arXiv 2305.05665; names of facebookresearch/ImageBind. Its towers of sound, depth, heat and motion are
left out, and so is what comes behind a text's vector: its length is made 1, and multiplied by a constant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor

MARK = "modality_preprocessors.vision.cls_token"
"""A name that ImageBind's checkpoints have and no other's."""

_SINGLE = {
    MARK: "visual.class_embedding",
    "modality_preprocessors.vision.pos_embedding_helper.pos_embed": "visual.positional_embedding",
    "modality_preprocessors.vision.rgbt_stem.proj.1.weight": "visual.conv1.weight",
    "modality_heads.vision.2.weight": "visual.proj",
    "modality_preprocessors.text.token_embedding.weight": "token_embedding.weight",
    "modality_preprocessors.text.pos_embed": "positional_embedding",
    "modality_heads.text.proj.1.weight": "text_projection",
    "modality_postprocessors.text.1.log_logit_scale": "logit_scale",
}

_RENAMED = (
    (r"^modality_trunks\.vision\.pre_transformer_layer\.0\.", "visual.ln_pre."),
    (r"^modality_heads\.vision\.0\.", "visual.ln_post."),
    (r"^modality_heads\.text\.proj\.0\.", "ln_final."),
    (r"^modality_trunks\.vision\.blocks\.", "visual.transformer.resblocks."),
    (r"^modality_trunks\.text\.blocks\.", "transformer.resblocks."),
    (r"\.norm_([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)
"""Regular expressions and what takes their place."""


_TURNED: dict[str, Callable[[Tensor], Tensor]] = {
    "visual.conv1.weight": lambda kernel: kernel.sum(dim=2),
    "visual.class_embedding": lambda token: token.flatten(),
    "visual.positional_embedding": lambda positions: positions.flatten(0, -2),
    "positional_embedding": lambda positions: positions.flatten(0, -2),
    "visual.proj": lambda weight: weight.T,
    "text_projection": lambda weight: weight.T,
}
"""What lies otherwise in ImageBind: projections are transposed, and a token and positions have the axis of a batch.

The stem is a convolution over an image that stands twice in time: its kernels are added.
"""


def from_imagebind(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the image and the text tower under CLIP's names, of those of all of ImageBind."""
    found = {}
    for key, value in state.items():
        name = _SINGLE.get(key, key)
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        if name != key:
            found[name] = _TURNED[name](value) if name in _TURNED else value
    return found
