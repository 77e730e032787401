"""What the collector of a proxy's worker has to go through: a full collection stops every call meanwhile."""

from __future__ import annotations

from pathlib import Path

from stageroute_router.testing.provider.provider import SimulatedProvider
from tests.support.proxy import MESSAGES, PRICES, started

LOOKING = """
import gc

from litellm.integrations.custom_logger import CustomLogger


class Looking(CustomLogger):
    async def async_post_call_response_headers_hook(self, *arguments, **named):
        return {"x-frozen": str(gc.get_freeze_count()), "x-seen": str(len(gc.get_objects()))}


callback = Looking()
"""


def test_a_full_collection_does_not_go_through_what_was_loaded_at_the_start(
    tmp_path: Path, provider: SimulatedProvider
) -> None:
    (tmp_path / "looking.py").write_text(LOOKING)
    configuration = {
        "model_list": provider.model_list("chat", PRICES),
        "litellm_settings": {"callbacks": ["stageroute_router.proxy.plugin", "looking.callback"]},
        "stageroute_settings": {"groups": {"chat": {"budget_usd_per_call": 0.002, "max_live_models": 2}}},
    }
    url = f"sqlite:///{tmp_path}/s.db"
    with (
        started(configuration, folder=tmp_path, database_url=url) as setup,
        setup.process.client() as client,
    ):
        response = client.post("/v1/chat/completions", json={"model": "chat", "messages": MESSAGES})
    frozen, seen = (int(response.headers[name]) for name in ("x-frozen", "x-seen"))
    assert frozen > 100_000
    assert seen < frozen / 2
