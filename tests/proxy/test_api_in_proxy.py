"""The endpoints in a real proxy: LiteLLM's own key check, error handlers and server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.support.proxy import Setup


def test_a_client_rewards_what_it_got_by_each_of_its_ids(setup: Setup) -> None:
    response = setup.chat()
    decision = setup.decision(response)
    said = []
    for key in (
        response.json()["id"],
        response.headers["x-stageroute-decision-id"],
        response.headers["x-litellm-call-id"],
        response.headers["x-stageroute-token"],
    ):
        answer = setup.client.post("/stageroute/reward", json={"id": key, "reward": 0.8})
        assert answer.status_code == 200, answer.text
        said.append(answer.json())
    assert [one["status"] for one in said] == ["recorded", "unchanged", "unchanged", "unchanged"]
    assert {one["decision_id"] for one in said} == {decision.decision.decision_id}
    receipt = setup.client.get(f"/stageroute/decisions/{response.json()['id']}").json()
    assert receipt["rewards"] == {"client": 0.8}


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer sk-wrong"}])
def test_without_a_valid_key_it_is_401_even_without_litellms_database(
    setup: Setup, header: dict[str, str]
) -> None:
    with httpx.Client(base_url=setup.client.base_url, headers=header, timeout=60) as client:
        for method, path in (("GET", "status"), ("POST", "reward"), ("GET", "decisions/sr-1")):
            answer = client.request(method, f"/stageroute/{path}", content=b"{")
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_key"), answer.text


def test_what_is_wrong_is_said_by_us_and_not_by_litellm(setup: Setup) -> None:
    for body, status in (("{", 422), ('{"id": "x", "reward": 2}', 400), ('{"id": "x", "reward": 1}', 404)):
        answer = setup.client.post("/stageroute/reward", content=body)
        assert answer.status_code == status, answer.text
        assert answer.json()["error"].keys() == {"message", "type", "code"}


def test_an_operator_looks_and_opens_a_window(setup: Setup) -> None:
    setup.chat()
    before = setup.client.get("/stageroute/status", params={"group": "chat"}).json()["groups"][0]["stage"]
    after = setup.client.post("/stageroute/groups/chat/redeploy")
    assert after.json()["stage"] == before + 1, after.text
    stages = setup.client.get("/stageroute/stages", params={"group": "chat", "last": 1}).json()
    assert [stage["reason"] for stage in stages] == ["manual"]
    assert setup.client.get("/stageroute/history", params={"group": "chat"}).json()[-1]["calls"] > 0
    assert setup.client.get("/stageroute/health").json()["state"] == "ok"


def test_the_description_is_served(setup: Setup) -> None:
    assert "/stageroute/reward" in setup.client.get("/stageroute/openapi.json").json()["paths"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="the documentation's examples use curl")
def test_the_documented_commands_do_what_they_say(setup: Setup, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    script = "\n".join(block for block in blocks if not block.startswith("export"))
    assert script.count("curl") >= 10
    key = setup.client.headers["authorization"].removeprefix("Bearer ")
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PROXY": setup.process.url, "KEY": key},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for said in (
        '"recorded"',
        '"code":200',
        '"revoked"',
        '"spend_ratio"',
        '"evidence"',
        '"open_calls"',
        '"binding"',
    ):
        assert said in ran.stdout, said
    assert '"state":"ok"' in ran.stdout
    assert ran.stdout.count('"pinned":true') == ran.stdout.count('"pinned_by":"operator"') == 1
    assert '"stage_reason":"manual"' in ran.stdout
