"""A URL's scheme says which store is opened."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from stageroute_router.errors import StoreError
from stageroute_router.store import opening
from stageroute_router.store.contract import DEFAULT_RETENTION_S, Store
from stageroute_router.store.memory import MemoryStore
from stageroute_router.store.opening import open_existing_store, open_store, schemes
from stageroute_router.store.sql.store import SqlStore

OPENED: list[tuple[str, dict[str, object]]] = []


def open_ours(url: str, **options: object) -> Store:
    """Open the store of a third-party package."""
    OPENED.append((url, options))
    return MemoryStore()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint(name="ours", value="tests_store_opening:open_ours", group=opening.GROUP),
        EntryPoint(name="broken", value="stageroute_router.store.memory:Missing", group=opening.GROUP),
        EntryPoint(name="sqlite", value="tests_store_opening:open_ours", group=opening.GROUP),
    ]
    module = type(opening)("tests_store_opening")
    module.open_ours = open_ours
    monkeypatch.setitem(__import__("sys").modules, "tests_store_opening", module)
    monkeypatch.setattr(opening, "entry_points", lambda *, group: points if group == opening.GROUP else [])
    OPENED.clear()


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://", MemoryStore),
        ("sqlite://", SqlStore),
        ("sqlite:///{folder}/s.db", SqlStore),
        ("sqlite+pysqlite:///{folder}/s.db", SqlStore),
    ],
)
def test_the_scheme_says_which_store_it_is(url: str, kind: type, tmp_path: Path) -> None:
    store = open_store(url.format(folder=tmp_path))
    assert isinstance(store, kind)
    store.close()


def test_an_installed_package_may_bring_a_store(installed: None) -> None:
    assert schemes() == ("broken", "memory", "ours", "postgres", "postgresql", "sqlite")
    open_store("ours://host/place", durability="normal", lazily=True)
    open_existing_store("ours+tls://host/place")
    usual = {"durability": "full", "retention_s": DEFAULT_RETENTION_S, "migrate": None, "lazily": False}
    assert [
        ("ours://host/place", {**usual, "durability": "normal", "lazily": True}),
        ("ours+tls://host/place", {**usual, "migrate": "verify"}),
    ] == OPENED
    store = open_store("sqlite://")
    assert isinstance(store, SqlStore), "ours comes first"
    store.close()
    with pytest.raises(StoreError, match=r"broken:// cannot be loaded .*Missing"):
        open_store("broken://host")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "mysql://user:secret-word@host/name",
            "scheme 'mysql'.*there are: memory, postgres, postgresql, sqlite",
        ),
        ("mysql+driver://user:secret-word@host/name", "scheme 'mysql'"),
        ("stageroute.db", "not a database URL; write for example sqlite:///stageroute.db"),
        ("", "not a database URL"),
        ("user:secret-word@host/name", "not a database URL"),
        ("not a url://user:secret-word@host/name", "not a database URL"),
        ("postgres//user:secret-word@host/name", "not a database URL"),
        ("sqlite+aiosqlite:///s.db", "what is supported is sqlite:///file"),
        ("memory://place", "write memory://"),
    ],
)
def test_what_no_store_is_registered_for_is_refused_without_its_password(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said) as caught:
        open_store(url)
    assert "secret-word" not in str(caught.value)
