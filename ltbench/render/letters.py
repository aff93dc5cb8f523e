"""How wide a text is in LaTeX's own type, a little too wide rather than too narrow."""

from __future__ import annotations

_NARROW = dict.fromkeys("ijl.,:;'!|", 2.8) | dict.fromkeys("frstI()[]- ", 3.95)
_WIDE = dict.fromkeys("mwABCDEFGHJKLNOPQRSTUVXYZ&%=+−±×<>~@", 8.35) | dict.fromkeys("MW", 10.3)
_DIGIT, _OTHER = 5.0, 5.6
_BOLD = 1.15
_CODE_POINT = 45.0
"""Of what pdflatex cannot set, whose code point stands there: [U+6F22]."""

_POINTS = _NARROW | _WIDE | dict.fromkeys("0123456789–", _DIGIT)


def text_width(text: str, *, is_bold: bool = False) -> float:
    """Return the width of a text in points in Computer Modern of 10 points.

    Letters are put into classes by the widest of each. Source: the metrics of cmr10 and cmbx10.
    """
    width = sum(_POINTS.get(letter, _OTHER if letter <= "ÿ" else _CODE_POINT) for letter in text)
    return width * (_BOLD if is_bold else 1.0)
