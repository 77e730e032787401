"""Our routes in LiteLLM's application: found first, at any mount path of the proxy, and no other route is shadowed."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from stageroute_router.proxy.mounting import _OurPaths

compared: list[str] = []


class Counted(APIRoute):
    """A route that tells what it was compared with."""

    def matches(self, scope: Any) -> Any:
        compared.append(scope["path"])
        return super().matches(scope)


def application() -> FastAPI:
    inner = APIRouter(prefix="/stageroute", route_class=Counted)
    inner.add_api_route("/status", lambda: "ours")
    ours = _OurPaths()
    ours.include_router(inner)
    app = FastAPI()
    app.include_router(ours)
    app.add_api_route("/v1/models", lambda: "theirs")
    return app


@pytest.mark.parametrize("root", ["", "/llm"])
def test_ours_and_theirs_are_found(root: str) -> None:
    with TestClient(application(), root_path=root) as client:
        assert client.get(f"{root}/stageroute/status").json() == "ours"
        assert client.post(f"{root}/stageroute/status").status_code == 405
        assert client.get(f"{root}/stageroute/nothing").status_code == 404
        assert client.get(f"{root}/v1/models").json() == "theirs"
        assert "/stageroute/status" in client.get(f"{root}/openapi.json").json()["paths"]


@pytest.mark.skipif(
    not hasattr(APIRouter, "matches"), reason="this FastAPI copies routes out of their routers"
)
def test_requests_of_others_are_not_compared_with_each_of_ours() -> None:
    compared.clear()
    with TestClient(application()) as client:
        assert client.get("/v1/models").json() == "theirs"
        assert compared == []
        assert client.get("/stageroute/status").json() == "ours"
        assert compared == ["/stageroute/status"] * len(compared) != []
