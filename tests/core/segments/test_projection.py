"""A long vector in few numbers: angles stay, and every process finds the same."""

from __future__ import annotations

import numpy as np
import pytest

from stageroute_router.core.segments.projection import PROJECTED, projected


@pytest.mark.parametrize("size", [129, 384, 1536, 3072])
def test_angles_stay_to_about_a_tenth(size: int) -> None:
    rng = np.random.default_rng(size)
    errors = []
    for share in np.linspace(0, 1, 200):
        one, noise = rng.normal(size=(2, size))
        other = share * one + (1 - share) * noise
        exact = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
        errors.append(projected(one.tolist()) @ projected(other.tolist()) - exact)
    assert len(projected(one)) == PROJECTED
    assert np.std(errors) < 0.13
    assert abs(np.mean(errors)) < 0.03


def test_short_vectors_keep_their_numbers_and_lose_their_length() -> None:
    assert projected([3.0, 4.0]) == pytest.approx([0.6, 0.8])
    assert projected([0.0, 0.0]).tolist() == [0.0, 0.0]
    assert len(projected(np.ones(PROJECTED))) == PROJECTED


def test_the_signs_are_the_same_in_every_release() -> None:
    """What is stored was found by them."""
    found = projected(np.arange(1.0, 1537.0))
    assert found[:4] == pytest.approx(
        [0.1350772976729, -0.0522249036777, 0.0374144271390, 0.0766693795180], abs=1e-9
    )


@pytest.mark.parametrize(
    "vector", [None, [], [[1.0]], "text", [float("nan")] * 200, [float("inf")], [None], object()]
)
def test_what_is_no_vector_is_refused(vector: object) -> None:
    with pytest.raises(ValueError, match="a call must have"):
        projected(vector)  # type: ignore[arg-type]
