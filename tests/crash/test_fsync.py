"""``durability="full"`` waits for the disk at every acknowledged batch, ``"normal"`` at none.

A killed process cannot tell the two apart, and a power loss is hard to come by. So SQLite's requests to synchronise a
file are counted, where they leave SQLite for the operating system: in a copy of its own "virtual file system".
"""

from __future__ import annotations

import _sqlite3
import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest

from stageroute_router.store.sql.drivers.sqlite import Durability
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.store.writer.writer import Writer
from stageroute_router.testing.store.writes import decided, rewarded

REWARDS = 20

_Sync = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_Open = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
)


class _Methods(ctypes.Structure):
    """``sqlite3_io_methods``: what can be done with a file."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("close_read_write_truncate", ctypes.c_void_p * 4),
        ("sync", ctypes.c_void_p),
        ("others", ctypes.c_void_p * 13),
    )


class _FileSystem(ctypes.Structure):
    """``sqlite3_vfs``: how files are opened."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("size_of_file", ctypes.c_int),
        ("longest_path", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("open", ctypes.c_void_p),
        ("others", ctypes.c_void_p * 15),
    )


class CountingFileSystem:
    """SQLite's own file system, with a counter of requests to synchronise."""

    def __init__(self) -> None:
        self._sqlite = ctypes.CDLL(_sqlite3.__file__)
        self._sqlite.sqlite3_vfs_find.restype = ctypes.POINTER(_FileSystem)
        self._original = self._sqlite.sqlite3_vfs_find(None)
        self._copy = _FileSystem.from_buffer_copy(self._original.contents)
        self._copy.name = b"stageroute-counting"
        self._open_file = _Open(self._open)  # kept: SQLite does not
        self._copy.open = ctypes.cast(self._open_file, ctypes.c_void_p)
        self._methods: dict[int, tuple[_Methods, object]] = {}
        self.syncs = 0

    def __enter__(self) -> CountingFileSystem:
        assert self._sqlite.sqlite3_vfs_register(ctypes.byref(self._copy), 1) == 0
        return self

    def __exit__(self, *_error: object) -> None:
        self._sqlite.sqlite3_vfs_unregister(ctypes.byref(self._copy))
        self._sqlite.sqlite3_vfs_register(self._original, 1)

    def _open(self, system: int, name: int | None, file: int, flags: int, out_flags: int | None) -> int:
        result: int = _Open(self._original.contents.open)(system, name, file, flags, out_flags)
        methods = ctypes.cast(file, ctypes.POINTER(ctypes.c_void_p))
        if methods[0]:
            methods[0] = ctypes.addressof(self._counting(methods[0]))
        return result

    def _counting(self, address: int) -> _Methods:
        if address not in self._methods:
            copy = _Methods.from_buffer_copy(_Methods.from_address(address))
            original = _Sync(copy.sync)

            def sync(file: int, flags: int) -> int:
                self.syncs += 1
                return int(original(file, flags))

            counted = _Sync(sync)
            copy.sync = ctypes.cast(counted, ctypes.c_void_p)
            self._methods[address] = (copy, counted)
        return self._methods[address][0]


@pytest.fixture
def files() -> Iterator[CountingFileSystem]:
    if not hasattr(_sqlite3, "__file__") or not hasattr(ctypes.CDLL(_sqlite3.__file__), "sqlite3_vfs_find"):
        pytest.skip("this Python has SQLite built in and its functions hidden, so they cannot be counted")
    with CountingFileSystem() as counting:
        yield counting


@pytest.mark.parametrize(("durability", "waits"), [("full", True), ("normal", False)])
def test_an_acknowledgement_waits_for_the_disk_as_its_durability_says(
    files: CountingFileSystem,
    tmp_path: Path,
    durability: Durability,
    waits: bool,  # noqa: FBT001
) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/s.db", durability=durability)
    store.commit([decided(f"d{number}") for number in range(REWARDS)])
    writer = Writer(store)
    for number in range(REWARDS):
        before = files.syncs
        writer.submit_reward(rewarded(f"d{number}", 0.5)).result(timeout=60)
        assert (files.syncs > before) is waits
    writer.close()
    store.close()
    assert files.syncs > 0  # at the latest when the log is moved into the file
