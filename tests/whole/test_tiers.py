"""The table of tiers names what there is, so that a moved test does not lose its tier."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import pytest

from tests.tiers import TIERS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("place", sorted(set(chain(*TIERS.values()))))
def test_every_place_exists(place: str) -> None:
    path, _, name = place.partition("::")
    assert (ROOT / path).exists()
    assert not name or re.search(
        rf"^(?:async )?def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.M
    )
