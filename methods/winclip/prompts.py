"""WinCLIP's prompts: states of an object inside templates of a photo (arXiv 2303.14814, Appendix A).

The lists are those of zqhang/Accurate-WinCLIP-pytorch, whose numbers TailedCore prints: one template stands
there twice, and counts twice.
"""

from __future__ import annotations

import itertools

NORMAL = (
    "{}",
    *(f"{state} {{}}" for state in ("flawless", "perfect", "unblemished")),
    *(f"{{}} without {fault}" for fault in ("flaw", "defect", "damage")),
)
"""What is said of a normal object."""

ANOMALOUS = ("damaged {}", *(f"{{}} with {fault}" for fault in ("flaw", "defect", "damage")))
"""What is said of an anomalous one."""

_PHOTOS = (
    ("cropped photo", ("the",)),
    ("close-up photo", ("a", "the")),
    ("bright photo", ("a", "the")),
    ("dark photo", ("the", "a")),
    ("jpeg corrupted photo", ("the", "the")),
    ("blurry photo", ("the", "a")),
    ("photo", ("a", "the")),
)
"""What kind of photo, and with which articles the object stands behind it, in order."""

TEMPLATES = (
    *(f"a {photo} of {article} {{}}." for photo, articles in _PHOTOS for article in articles),
    *(f"a photo of {article} {size} {{}}." for size in ("small", "large") for article in ("a", "the")),
    *(
        f"a photo of {article} {{}} for {purpose}."
        for purpose, articles in (("visual inspection", ("the", "a")), ("anomaly detection", ("the", "a")))
        for article in articles
    ),
)
"""21 templates."""


def prompts(name: str) -> tuple[list[str], list[str]]:
    """Return the normal and the anomalous prompts of an object: each state in each template, 147 and 84."""
    normal, anomalous = (
        [template.format(state.format(name)) for state, template in itertools.product(states, TEMPLATES)]
        for states in (NORMAL, ANOMALOUS)
    )
    return normal, anomalous
