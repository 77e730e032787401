"""The site builds, with no broken link, anchor or reference, and is whole by itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
FETCHED = {"img": "src", "link": "href", "script": "src", "iframe": "src", "source": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return folder


class _Addresses(HTMLParser):
    """Collects what a page fetches, and where it leads."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get(FETCHED.get(tag, "href" if tag == "a" else ""))
        if address:
            (self.links if tag == "a" else self.fetched).append(address)


def addresses(site: Path) -> _Addresses:
    found = _Addresses()
    for page in site.rglob("*.html"):
        found.feed(page.read_text(encoding="utf-8"))
    return found


def test_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    fetched = addresses(site).fetched
    assert fetched
    assert not [address for address in fetched if urlsplit(address).netloc]
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8"))


def test_links_that_leave_the_site_are_well_formed(site: Path) -> None:
    outside = {link for link in addresses(site).links if urlsplit(link).scheme}
    assert outside
    for link in outside:
        parts = urlsplit(link)
        assert parts.scheme == "https", link
        assert re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}", parts.netloc), link
        assert not re.search(r"[\s<>\"{}|\\^`]", link), link


def test_formulas_are_shown_without_a_library(site: Path) -> None:
    page = (site / "concepts" / "index.html").read_text(encoding="utf-8")
    assert "<math" in page
    for page_of_site in site.rglob("*.html"):
        text = page_of_site.read_text(encoding="utf-8")
        assert 'class="arithmatex"' not in text
        assert 'class="mermaid"' not in text  # which would be fetched from elsewhere


def test_readme_is_the_first_page(site: Path) -> None:
    (title,) = re.findall(r"^# (.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert title in (site / "index.html").read_text(encoding="utf-8")


def test_links_to_files_of_the_repository_lead_to_copies(site: Path) -> None:
    assert (site / "source" / "examples" / "plain_router.py").read_bytes() == (
        ROOT / "examples" / "plain_router.py"
    ).read_bytes()


def test_reference_has_what_an_application_imports(site: Path) -> None:
    reference = "".join(page.read_text() for page in (site / "reference").rglob("*.html"))
    import stageroute_router  # noqa: PLC0415 - after the site, which needs no import

    for name in stageroute_router.__all__:
        thing = getattr(stageroute_router, name)
        assert f'id="{thing.__module__}.{thing.__qualname__}"' in reference, name


def test_table_of_frameworks_is_what_is_tested() -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "integrations" / "run_frameworks.py"), "--table"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    page = (ROOT / "docs" / "frameworks" / "index.md").read_text()
    assert made.strip() in page, "run: python tests/integrations/run_frameworks.py --table"


def test_every_example_is_listed() -> None:
    page = (ROOT / "docs" / "examples.md").read_text()
    listed = set(re.findall(r"\]\(\.\./examples/([^)/]+)", page))
    there = {path.name for path in (ROOT / "examples").iterdir() if path.name != "__pycache__"}
    assert listed == there
