"""What the parts of a store's contract share: how a store is made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest

from stageroute_router.store.contract import Store
from stageroute_router.testing.clock import FakeClock


class ContractBase(ABC):
    """What the parts of a store's contract share: how a store is made."""

    @abstractmethod
    def make_store(self, folder: Path, clock: FakeClock) -> Store:
        """Open a store that keeps its files, if any, in a folder of its own."""

    @pytest.fixture
    def clock(self) -> FakeClock:
        """The time as the store sees it."""
        return FakeClock()

    @pytest.fixture
    def store(self, tmp_path: Path, clock: FakeClock) -> Iterator[Store]:
        """An empty store, closed afterwards."""
        store = self.make_store(tmp_path, clock)
        yield store
        store.close()
