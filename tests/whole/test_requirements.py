"""Every lock is used, and says by hashes which files it means."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements"
LOCKS = sorted(REQUIREMENTS.rglob("*.lock"))
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;]+)", re.MULTILINE)


def name(lock: Path) -> str:
    return lock.relative_to(REQUIREMENTS).as_posix()


def pins(lock: Path) -> set[tuple[str, str]]:
    return set(PIN.findall(lock.read_text(encoding="utf-8")))


def test_every_lock_is_used() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    versions = re.findall(r"^VERSIONS := (.*)$", makefile, re.MULTILINE)[0].split()
    assert "$(VERSIONS:%=requirements/litellm/%.lock) requirements/frameworks/*.lock" in makefile
    used = {f"litellm/{version}.lock" for version in versions}
    # Each framework is run by the name of its test.
    used |= {
        f"frameworks/{path.stem.removeprefix('test_')}.lock"
        for path in (ROOT / "tests/integrations/frameworks").glob("test_*.py")
    }
    for reader in (ROOT / "Makefile", ROOT / "examples/proxy/Dockerfile"):
        used |= set(
            re.findall(r"install.*requirements/([a-z]+\.lock)", reader.read_text(encoding="utf-8"), re.I)
        )
    assert used == set(map(name, LOCKS))


@pytest.mark.parametrize("lock", LOCKS, ids=name)
def test_every_line_of_a_lock_has_hashes(lock: Path) -> None:
    lines = lock.read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    assert lines
    assert not [line for line in lines if "--hash=sha256:" not in line]


def test_the_image_of_the_proxy_has_what_is_tested() -> None:
    assert pins(REQUIREMENTS / "proxy.lock") <= pins(REQUIREMENTS / "dev.lock")


def test_every_file_is_explained() -> None:
    explained = (REQUIREMENTS / "README.md").read_text(encoding="utf-8")
    for path in {*REQUIREMENTS.rglob("*.*")} - {REQUIREMENTS / "README.md"}:
        names = name(path), *(f"{path.parent.name}/{kind}{path.suffix}" for kind in ("NAME", "VERSION"))
        assert any(f"`{each}`" in explained for each in names), path
