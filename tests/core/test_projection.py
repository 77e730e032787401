"""A long vector in few numbers: angles stay, and every process finds the same."""

from __future__ import annotations

import numpy as np
import pytest

from stageroute_router.core.projection import PROJECTED, projected


@pytest.mark.parametrize("size", [129, 384, 1536, 3072])
def test_angles_stay_to_a_few_hundredths(size: int) -> None:
    rng = np.random.default_rng(size)
    centre = rng.normal(size=size)
    rows = rng.normal(size=(60, size)) + np.linspace(0, 3, 60)[:, None] * centre
    exact = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    few = np.array([projected(row.tolist()) for row in rows])
    assert few.shape == (60, PROJECTED)
    errors = few @ few.T - exact @ exact.T
    assert np.sqrt((errors**2).mean()) < 0.1
    assert np.abs(errors).max() < 0.4


def test_short_vectors_keep_their_numbers_and_lose_their_length() -> None:
    assert projected([3.0, 4.0]) == pytest.approx([0.6, 0.8])
    assert projected([0.0, 0.0]).tolist() == [0.0, 0.0]
    assert len(projected(np.ones(PROJECTED))) == PROJECTED


def test_the_signs_are_the_same_in_every_release() -> None:
    """What is stored was found by them."""
    found = projected(np.arange(1.0, 1537.0))
    assert found[:4] == pytest.approx(
        [-0.0112199041667, 0.0986304307829, 0.0470656423992, 0.1273436245906], abs=1e-9
    )


@pytest.mark.parametrize(
    "vector", [None, [], [[1.0]], "text", [float("nan")] * 200, [float("inf")], [None], object()]
)
def test_what_is_no_vector_is_refused(vector: object) -> None:
    with pytest.raises(ValueError, match="a call must have"):
        projected(vector)  # type: ignore[arg-type]
