"""What the site has beside the pages in this folder, as a hook of mkdocs: no text stands twice.

Documents that lie elsewhere in the repository become pages, every method has a card, and a line `<!-- table: NAME -->`
becomes a table made from the code.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from inspect import cleandoc
from itertools import takewhile
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from ltbench.contract.description import Description, describe
from ltbench.contract.registry import Preset, method_names, source_of
from ltbench.core import Protocol
from ltbench.metrics import compat
from ltbench.protocols import PROTOCOLS
from ltbench.splits import noise, readings, recipe
from ltbench.sweeps.grid import grid_names, read_grid
from ltbench.tables.measurements import PRIVILEGES

ROOT = Path(__file__).resolve().parent.parent

DOCUMENTS = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "adding-a-method.md": "methods/README.md",
    "benchmarks.md": "benchmarks/README.md",
    "changelog.md": "CHANGELOG.md",
}
"""Page -> the document that it is, relative to the repository."""

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_TABLE = re.compile(r"^<!-- table: ([a-z ]+) -->$", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the cards and the decisions into the navigation."""
    cards = [f"methods/{name}.md" for name in method_names()]
    decisions = [f"adr/{file.name}" for file in sorted((ROOT / "docs" / "adr").glob("*.md"))]
    config.nav = _placed(config.nav, {"methods": ["methods/index.md", *cards], "adr": ["adr/index.md", *decisions]})
    return config


def _placed(nav: Any, lists: Mapping[str, list[str]]) -> Any:
    if isinstance(nav, list):
        return [_placed(entry, lists) for entry in nav]
    if isinstance(nav, dict):
        return {title: lists.get(entry, entry) if isinstance(entry, str) else _placed(entry, lists)
                for title, entry in nav.items()}  # fmt: skip
    return nav


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    for uri, text in _pages().items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the tables of a page, and let its links lead to pages."""
    uri = page.file.src_uri
    return relinked(_TABLE.sub(lambda found: TABLES[found[1]](), markdown), uri)


def relinked(markdown: str, uri: str) -> str:
    """Return a page's text with its links to documents as links to their pages; to other files there is no link.

    Args:
        markdown: the text, with links relative to the file that it comes from.
        uri: the page.
    """
    folder = posixpath.dirname(_source(uri))
    by_document = {document: own for own, document in DOCUMENTS.items()}
    by_document |= {f"methods/{_family(name)}/README.md": f"methods/{_family(name)}.md" for name in method_names()}

    def link(found: re.Match[str]) -> str:
        image, text, target = found.groups()
        path, _, anchor = target.partition("#")
        if not path or "://" in path:
            return found[0]
        document = posixpath.normpath(posixpath.join(folder, path))
        own = by_document.get(document, document.removeprefix("docs/") if document.startswith("docs/") else "")
        if not own or own.endswith((".py", ".sh")):
            return f"{text} (`{document}`)" if (ROOT / document).exists() else found[0]
        shown = posixpath.relpath(own, posixpath.dirname(uri) or ".")
        return f"{image}[{text}]({shown}{'#' * bool(anchor)}{anchor})"

    return _LINK.sub(link, markdown)


def _source(uri: str) -> str:
    """Return the document that a page comes from; cards come from the README of their family."""
    if uri.startswith("methods/") and (name := Path(uri).stem) in method_names():
        return f"methods/{_family(name)}/README.md"
    return DOCUMENTS.get(uri, f"docs/{uri}")


@cache
def _pages() -> dict[str, str]:
    made = {uri: (ROOT / document).read_text(encoding="utf-8") for uri, document in DOCUMENTS.items()}
    made |= {f"methods/{name}.md": card(name) for name in method_names()}
    made["methods/index.md"] = f"# Methods\n\n{_methods()}\n"
    made["adr/index.md"] = "# Decisions\n\n" + "\n".join(_decisions()) + "\n"
    made["findings.md"] = _findings()
    return made


def card(name: str) -> str:
    """Return the card of a method: what its code declares, and its family's README, or where that is."""
    own, family = describe(name), _family(name)
    text = (ROOT / "methods" / family / "README.md").read_text(encoding="utf-8")
    title, _, rest = text.partition("\n")
    head = f"{title}\n" if name == family else f"# {own.info.title}\n"
    told = rest if name == family else f"\nHow it works, and what is whose: [{family}](README.md).\n"
    parts = [head, _summary(name), _facts(own), told.strip(), "## Hyper-parameters", _hyper_parameters(own)]
    parts += ["## Presets", _presets(own.presets.values())] if own.presets else []
    return "\n\n".join(parts) + "\n"


def _family(name: str) -> str:
    source = source_of(name)
    assert source is not None, name  # the site is of the suite's own methods
    return source.parent.name


def _summary(name: str) -> str:
    """Return the first paragraph of what a method's class says of itself."""
    source = source_of(name)
    assert source is not None
    body = ast.parse(source.read_text(encoding="utf-8")).body
    (wanted,) = [
        own.value.id for own in body
        if isinstance(own, ast.AnnAssign) and ast.unparse(own.target) == "METHOD" and isinstance(own.value, ast.Name)
    ]  # fmt: skip
    (found,) = [own for own in body if isinstance(own, ast.ClassDef) and own.name == wanted]
    return (ast.get_docstring(found) or "").split("\n\n")[0].replace("\n", " ")


def _facts(own: Description) -> str:
    info = own.info
    arxiv = re.search(r"\d{4}\.\d{5}", info.paper or "")
    paper = f"[arXiv:{arxiv[0]}](https://arxiv.org/abs/{arxiv[0]})" if arxiv else info.paper or "none"
    preset = " --preset offline" if "offline" in own.presets else ""
    return _grid(
        ("", ""),
        [
            ("name", f"`{info.name}`"),
            ("paper", paper),
            ("privilege, at most", _privileges(own) or "none"),
            ("scores", "images and pixels" if info.has_maps else "images; it gives no maps"),
            ("training images of a category", f"{info.min_images} at least"),
            ("run it", f"`ltbench run --method {info.name} --split shapes_step20{preset}`"),
        ],
    )


def _privileges(own: Description) -> str:
    """Return what the class declares; with some hyper-parameters a run asks for less (`run_info`)."""
    return ", ".join(text for flag, text in PRIVILEGES.items() if getattr(own.info, flag))


def _hyper_parameters(own: Description) -> str:
    rows = [(f"`{one.name}`", f"`{one.type_name}`", f"`{one.default!r}`", one.description) for one in own.parameters]
    return _grid(("name", "type", "default", "meaning"), rows)


def _presets(presets: Iterable[Preset]) -> str:
    rows = [
        (
            f"`{one.name}`",
            one.description,
            ", ".join(f"`{key}={value}`" for key, value in one.parameters.items()),
            one.protocol or "",
            ", ".join(f"`{split}`" for split in one.splits),
        )
        for one in presets
    ]
    return _grid(("name", "what", "settings", "protocol", "taken for"), rows)


def _methods() -> str:
    rows = [
        (f"[{own.info.title}]({name}.md)", f"`{name}`", _summary(name), _privileges(own))
        for name, own in ((name, describe(name)) for name in method_names())
    ]
    return _grid(("method", "name", "what it is", "privilege, at most"), rows)


def _decisions() -> Iterator[str]:
    for file in sorted((ROOT / "docs" / "adr").glob("*.md")):
        title = file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        yield f"- [{title}]({file.name})"


def _findings() -> str:
    """Return what each script of `findings/` says in its first comment."""
    parts = ["# Findings", "Surprises of libraries and formats. Each is a script in `findings/` that shows it without "
             "ltbench, with pinned packages, and fails once it changes."]  # fmt: skip
    for file in sorted((ROOT / "findings").glob("*.sh")):
        lines = file.read_text(encoding="utf-8").splitlines()[1:]
        comment = [line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines)]
        parts += [f"## {file.stem.replace('_', ' ')}", "\n".join(comment), f"`findings/{file.name}`"]
    return "\n\n".join(parts) + "\n"


def _protocols() -> str:
    """Return every protocol with every setting in which they differ."""
    names = [own.name for own in fields(Protocol) if own.name != "name"]
    differ = [own for own in names if len({getattr(protocol, own) for protocol in PROTOCOLS.values()}) > 1]
    rows = [(f"`{protocol.name}`", *(str(getattr(protocol, own)) for own in differ)) for protocol in PROTOCOLS.values()]
    return _grid(("name", *(f"`{own}`" for own in differ)), rows)


def _settings() -> str:
    """Return what the settings of a protocol mean, from where they are defined."""
    text = cleandoc(Protocol.__doc__ or "").partition("Args:\n")[2]
    found = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w+: |\Z)", text, re.MULTILINE | re.DOTALL)
    return _grid(("setting", "meaning"), [(f"`{name}`", " ".join(told.split())) for name, told in found])


def _grids() -> str:
    return _grid(("grid", "what"), [(f"`{name}`", read_grid(name).description) for name in grid_names()])


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
                     for line in lines)  # fmt: skip


def _said(text: str | None) -> str:
    """Return a module's docstring without its first paragraph."""
    return cleandoc(text or "").partition("\n\n")[2]


TABLES: Mapping[str, Callable[[], str]] = {
    "protocols": _protocols,
    "settings": _settings,
    "grids": _grids,
    "methods": _methods,
    "metric variants": lambda: _said(compat.__doc__),
    "noise rules": lambda: _said(noise.__doc__),
    "readings": lambda: _said(readings.__doc__),
    "names of splits": lambda: _said(recipe.__doc__),
}
"""What stands for `<!-- table: NAME -->` in a page."""
