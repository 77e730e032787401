"""Two topics that the simulated provider's embeddings tell apart, and the segmenter of earlier calls about them."""

from __future__ import annotations

from stageroute_router.core.segments.clusters import fit_segmenter
from stageroute_router.core.segments.projection import projected
from stageroute_router.groups.segmenter import embedding_featuriser
from stageroute_router.store.opening import open_store
from stageroute_router.store.writes import SegmenterFitted
from stageroute_router.testing.provider.word_vectors import word_vector

SIZE = 256
"""How many numbers the embedding model has to give."""

COOK = "how do i {} with butter in a pan".format
QUERY = "select {} from users where id is null".format
_WORDS = [f"{first} {second}" for first in ("red", "old", "big", "raw", "odd") for second in "abcd"]


def store_segmenter(url: str, *, group: str, model: str) -> None:
    """Store a segmenter of a group whose texts a model embeds: one segment for each topic."""
    rows = [projected(word_vector(topic(words), size=SIZE)) for topic in (COOK, QUERY) for words in _WORDS]
    fitted = fit_segmenter(rows, segments=2, featuriser=embedding_featuriser(model).name)
    store = open_store(url)
    store.commit([SegmenterFitted(group=group, version=1, fitted=fitted.to_json(), fitted_at=1.0)])
    store.close()
