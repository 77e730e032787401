"""What the documentation's site does beyond MkDocs: the repository's own pages, the package's layout, formulas.

MkDocs calls the functions below by their names (``hooks:`` in mkdocs.yml).
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    **{
        f"examples/{folder}/README.md": f"examples/{folder}.md"
        for folder in sorted(readme.parent.name for readme in (ROOT / "examples").glob("*/README.md"))
    },
}
"""Files of the repository that are pages of the site, too."""

_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


@event_priority(100)  # before mkdocstrings reads it
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show mkdocstrings the package as it is installed: with ``integrations`` inside."""
    layout = tempfile.TemporaryDirectory(prefix="stageroute-docs-")
    config["layout"] = layout  # removed with the configuration
    package = Path(layout.name) / "stageroute_router"
    package.mkdir()
    for source in (*(ROOT / "stageroute_router").iterdir(), ROOT / "integrations"):
        (package / source.name).symlink_to(source)
    handlers: dict[str, Any] = config.plugins["mkdocstrings"].config["handlers"]
    handlers["python"]["paths"] = [layout.name]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the repository's own pages, and name the pages that the navigation gives as ``*`` or ``folder/*``."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    named = set(_leaves(config.nav))
    for section in config.nav or []:
        for title, entries in section.items():
            if isinstance(entries, list):
                section[title] = [page for entry in entries for page in _pages(entry, files, named)]
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that leave docs/ at the site: at a page there, or at a copy of the file."""
    uri = page.file.src_uri
    source = next((source for source, made in PAGES.items() if made == uri), f"docs/{uri}")

    def point(link: re.Match[str]) -> str:
        target = PurePosixPath(os.path.normpath(PurePosixPath(source).parent / link[1]))
        if target.parts[0] == "docs":
            inside = str(target.relative_to("docs"))
        elif str(target) in PAGES:
            inside = PAGES[str(target)]
        elif (ROOT / target).is_file():
            inside = f"source/{target}"
            if files.get_file_from_path(inside) is None:
                files.append(File.generated(config, inside, abs_src_path=str(ROOT / target)))
        else:
            return link[1]  # MkDocs says what is wrong with it
        return os.path.relpath(inside, PurePosixPath(uri).parent)

    return _LINK.sub(point, markdown)


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write formulas as MathML, which browsers show without a library."""
    del page, config, files
    return _FORMULA.sub(lambda it: convert(_plain(it[3]), "block" if it[2] == "[" else "inline"), html)


def _plain(formula: str) -> str:
    return formula.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _leaves(entry: Any) -> Iterator[str]:  # noqa: ANN401 - as YAML nests it
    if isinstance(entry, str):
        yield entry
    elif entry is not None:
        for below in entry.values() if isinstance(entry, dict) else entry:
            yield from _leaves(below)


def _pages(entry: Any, files: Files, named: set[str]) -> Iterator[Any]:  # noqa: ANN401 - as YAML nests it
    if not (isinstance(entry, str) and entry.endswith("*")):
        yield entry
        return
    folder = entry.removesuffix("*").rstrip("/")
    for uri in sorted(file.src_uri for file in files.documentation_pages()):
        if uri not in named and uri.rpartition("/")[0] == folder:
            yield uri
