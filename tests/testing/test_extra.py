"""What the public fakes need beside the package."""

from __future__ import annotations

import sys

import pytest


def test_provider_without_aiohttp_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("stageroute_router.testing.provider")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(ImportError, match=r'aiohttp: pip install "stageroute-router\[testing\]"'):
        import stageroute_router.testing.provider  # noqa: F401, PLC0415 - what is tested
