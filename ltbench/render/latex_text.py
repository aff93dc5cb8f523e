"""Foreign text in LaTeX: what pdflatex can set without further packages, and the code point of the rest."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

_SPECIAL: Mapping[str, str] = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\textasciigrave{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''"},
    **{"[": "{[}", "*": "{*}"},  # at the beginning of a row they would belong to the line break before
    **{"±": r"$\pm$", "−": "$-$", "–": "--", "—": "---", "×": r"$\times$", "≥": r"$\geq$", "≤": r"$\leq$"},
    **{"…": r"\ldots{}", "→": r"$\rightarrow$", "∞": r"$\infty$", "«": r"$\ll$", "»": r"$\gg$"},
    **{"’": "'", "‘": "{`}", "“": "{``}", "”": "{''}", "•": r"\textbullet{}"},
    **{"ł": r"\l{}", "Ł": r"\L{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ı": r"\i{}"},
    **dict.fromkeys("ÐðÞþ\xad", ""),  # the default fonts lack them
}

_GREEK = {
    **dict(zip("αβγδεζηθικλμνξοπρςστυφχψω", (
        *("alpha", "beta", "gamma", "delta", "varepsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"),
        *("nu", "xi", "", "pi", "rho", "varsigma", "sigma", "tau", "upsilon", "varphi", "chi", "psi", "omega"),
    ), strict=True)),
    **dict(zip("ΓΔΘΛΞΠΣΥΦΨΩ", (
        *("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"),
    ), strict=True)),
    **{"ϕ": "phi", "ϵ": "epsilon", "ϑ": "vartheta", "ϖ": "varpi", "ϱ": "varrho", "µ": "mu"},
}  # fmt: skip
"""Letter -> its name in mathematics."""

_AS_LATIN = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧ", "ABEZHIKMNOPTX", strict=True))
"""Capitals that look like Latin ones."""

_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0323": "d", "\u0327": "c", "\u0331": "b",
}  # fmt: skip
"""Combining mark -> LaTeX's command for it."""

_MATH_ACCENTS = {"\u0301": "acute", "\u0308": "ddot"}


def escape_latex(text: str) -> str:
    """Return text with LaTeX's special characters made literal; one that pdflatex cannot set becomes its code point."""
    escaped = "".join(map(_letter, unicodedata.normalize("NFC", text)))
    return re.sub(r"-(?=-)", "-{}", escaped) if "--" in text else escaped  # two hyphens are no dash


def _letter(character: str) -> str:
    """Return the LaTeX of one character."""
    if character.isspace():
        return " "
    if found := _SPECIAL.get(character):
        return found
    if greek := _greek(character):
        return rf"\ensuremath{{{greek}}}"
    if character not in _SPECIAL and (" " < character <= "~" or "¡" <= character <= "ÿ"):
        return character
    base, mark = (*unicodedata.normalize("NFD", character), "")[:2]
    if mark in _ACCENTS and base.isascii() and len(unicodedata.normalize("NFD", character)) == 2:
        return rf"\{_ACCENTS[mark]}{{{_DOTLESS.get(base, base)}}}"
    return f"{{[}}U+{ord(character):04X}]"


_DOTLESS = {"i": r"\i", "j": r"\j"}


def _greek(character: str) -> str:
    """Return a Greek letter, with or without an accent, in mathematics; "" for all others."""
    if character in _GREEK:
        return f"\\{_GREEK[character]}" if _GREEK[character] else "o"
    if character in _AS_LATIN:
        return rf"\mathrm{{{_AS_LATIN[character]}}}"
    parts = unicodedata.normalize("NFD", character)
    if len(parts) == 2 and parts[1] in _MATH_ACCENTS and (base := _greek(parts[0])):
        return rf"\{_MATH_ACCENTS[parts[1]]}{{{base}}}"
    return ""
