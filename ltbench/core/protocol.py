"""Everything that changes a number without being the method."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ltbench.errors import SpecError


@dataclass(frozen=True, slots=True)
class Protocol:
    """Everything that changes a number without being the method.

    Args:
        name: "common", "ltad", "tailedcore", "dinomaly", "rlr", "winclip", "anomalyclip",
            "anomalygpt".
        resize: side in pixels that the image is resized to.
        resize_mode: "exact" gives resize x resize (the aspect is not kept); "short_side" keeps the aspect.
        crop: side in pixels of the centre crop, or None for none.
        mask_interpolation: how a mask is resized.
        mask_rule: which resized mask values are defect pixels: "positive" (> 0), "tenth" (> 0.1), "half" (> 0.5) or
            "full" (exactly 1, the floor of a bilinear resize).
        mask_threshold: which values of a mask on disk are defects: "auto" takes label ids (few values) above 0 and cuts
            a continuum (JPEG, antialiased) at half of its maximum; "positive" takes all above 0, "half" cuts all masks.
        image_depth: bits of a 16-bit grey image that are used; 12 for cameras that leave the upper four empty.
        image_score: "method" takes the method's own; "smoothed_map_max" the maximum of the map after a Gaussian.
        image_score_sigma: that Gaussian's standard deviation in pixels.
        interpolation: how an image is resized.
        aupro_limit: false-positive rate up to which AUPRO integrates.
        aupro_connectivity: neighbours that join two pixels to one region (4 or 8).
        averaging: over categories, always unweighted.
        epoch: which epoch of a trained method is reported, always the last.
        pixel_side: side in pixels that maps (bilinearly) and masks (to the nearest pixel) are resized to before they
            are compared, or None to compare them at the images' size.
        defective_pixels: whether there is, besides, the pixel AUROC of the anomalous images alone, which some papers
            publish. It changes no other number.
    """

    name: str
    resize: int
    resize_mode: Literal["exact", "short_side"] = "exact"
    crop: int | None = None
    mask_interpolation: Literal["nearest", "bilinear"] = "nearest"
    mask_rule: Literal["positive", "tenth", "half", "full"] = "positive"
    image_score: Literal["method", "smoothed_map_max"] = "method"
    image_score_sigma: float = 4.0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    aupro_limit: float = 0.3
    aupro_connectivity: Literal[4, 8] = 8
    averaging: Literal["unweighted over categories"] = "unweighted over categories"
    epoch: Literal["last"] = "last"
    mask_threshold: Literal["auto", "positive", "half"] = "auto"
    image_depth: Literal[12, 16] = 16
    pixel_side: int | None = None
    defective_pixels: bool = False

    def __post_init__(self) -> None:
        if self.resize < 1 or (self.crop is not None and not 1 <= self.crop <= self.resize):
            raise SpecError(f"Expected 1 <= crop <= resize in protocol {self.name!r}, got {self.crop}, {self.resize}.")
        if self.resize_mode == "short_side" and self.crop is None:
            raise SpecError(f"Expected a crop in protocol {self.name!r}, since images keep their aspect. Set crop.")
        if self.pixel_side is not None and self.pixel_side < 1:
            raise SpecError(
                f"Expected a pixel_side from 1 in protocol {self.name!r}, got {self.pixel_side}. Set None or pixels."
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every image and every anomaly map, in pixels."""
        side = self.resize if self.crop is None else self.crop
        return (side, side)

    @property
    def crops(self) -> bool:
        """Whether a part of a resized image can be cut off."""
        return self.crop is not None and (self.resize_mode == "short_side" or self.crop < self.resize)

    def payload(self) -> dict[str, Any]:
        """Return every setting as plain JSON values; what was added later is left out at its default.

        Run hashes of before stay as they are.
        """
        settings = asdict(self)
        later = {"mask_threshold": "auto", "image_depth": 16, "pixel_side": None, "defective_pixels": False}
        return {name: value for name, value in settings.items() if name not in later or value != later[name]}
