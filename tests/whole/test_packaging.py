"""What is installed is what the source says, editable and from the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import import_module, metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_integrations_are_importable_under_the_package() -> None:
    """The editable install maps the folder ``integrations`` to ``stageroute_router.integrations``."""
    module = import_module("stageroute_router.integrations")
    assert Path(str(module.__file__)).parent.name == "integrations"


def test_wheel_has_every_module_the_types_marker_and_the_command(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = next(name for name in names if name.endswith("entry_points.txt"))
        assert "stageroute = stageroute_router.cli:main" in archive.read(entry_points).decode()
    source = {
        f"stageroute_router/{path.relative_to(ROOT / 'stageroute_router')}"
        for path in (ROOT / "stageroute_router").rglob("*.py")
    }
    integrations = {
        f"stageroute_router/{path.relative_to(ROOT)}" for path in (ROOT / "integrations").rglob("*.py")
    }
    page = {
        f"stageroute_router/page/{folder}/{path.name}"
        for folder in ("static", "templates")
        for path in (ROOT / "stageroute_router/page" / folder).iterdir()
    }
    missing = (source | integrations | page | {"stageroute_router/py.typed"}) - names
    assert not missing
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "examples/"))]


def test_versions_agree() -> None:
    assert metadata.version("stageroute-router") in (ROOT / "pyproject.toml").read_text()
