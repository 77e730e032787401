"""What the section of the configuration file may say, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from stageroute_router import StageRouteRouter
from stageroute_router.errors import SettingsError, StageRouteError
from stageroute_router.proxy import start
from stageroute_router.settings.file import read_configuration, read_document
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.proxy_process import ProxyEndedError, ProxyProcess

MODEL = {"model_name": "chat", "litellm_params": {"model": "openai/m"}}
GROUPS = {"chat": {"budget_usd_per_call": 0.002}}


def test_references_are_resolved_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"URL": "sqlite:///x.db", "BUDGET": "2e-4", "CALLS": "50", "SECRET": "s"}.items():
        monkeypatch.setenv(f"SR_{name}", value)
    group = {"budget_usd_per_call": "os.environ/SR_BUDGET", "stage": {"calls": "os.environ/SR_CALLS"}}
    block = {
        "database_url": "os.environ/SR_URL",
        "groups": {"chat": group},
        "reward_token_keys": ["k:os.environ/SR_SECRET"],
    }
    read = read_configuration({"stageroute_settings": block})
    assert read.database_url == "sqlite:///x.db"
    assert read.groups == {"chat": {"budget_usd_per_call": 2e-4, "stage": {"calls": 50}}}
    assert read.options == {"reward_token_keys": ["k:os.environ/SR_SECRET"]}, "secrets stay references"


MISTAKES: dict[str, tuple[Any, str]] = {
    "missing": (None, "stageroute_settings is missing; add it"),
    "no groups": ({"chat": GROUPS["chat"]}, "stageroute_settings.chat: there is no such setting"),
    "empty": ({"groups": {}}, r"stageroute_settings\.groups must map"),
    "a list": ([1], "must be a mapping"),
    "misspelt": ({"groups": GROUPS, "retentoin": "30d"}, "did you mean 'retention'"),
    "misspelt in a group": (
        {"groups": {"chat": {"budget_usd_per_cal": 1}}},
        r"stageroute_settings\.groups\['chat'\]\.budget_usd_per_cal: there is no such setting; did you mean",
    ),
    "unknown group": (
        {"groups": {"chatt": GROUPS["chat"]}},
        r"groups\['chatt'\]: no deployment in model_list has this model_name \(there are: chat\); did you mean",
    ),
    "unknown embedding": (
        {"groups": {"chat": {**GROUPS["chat"], "segments": {"by": "auto", "embedding": "vectors"}}}},
        r"groups\['chat'\]\.segments\.embedding = 'vectors': no deployment in model_list has this model_name",
    ),
    "not set": (
        {"groups": GROUPS, "database_url": "os.environ/SR_NOWHERE"},
        "'SR_NOWHERE', which is not set",
    ),
    "wrong value": (
        {"groups": GROUPS, "durability": "maximal"},
        r"stageroute_settings\.durability = 'maximal'",
    ),
    "database": ({"groups": GROUPS, "database_url": "sqlite:////nowhere/at/all.db"}, "/nowhere/at"),
    "not a URL": ({"groups": GROUPS, "database_url": "nonsense"}, "nonsense"),
    "keys": ({"groups": GROUPS, "reward_token_keys": ["k:os.environ/SR_NOWHERE"]}, "SR_NOWHERE"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_wrong_is_said_at_the_start(tmp_path: Path, mistake: str) -> None:
    block, said = MISTAKES[mistake]
    document: dict[str, Any] = {"model_list": [MODEL]}
    if block is not None:
        document["stageroute_settings"] = block
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    server = SimpleNamespace(
        proxy_config=SimpleNamespace(config=document), user_config_file_path=str(path), llm_router=None
    )
    with pytest.raises(StageRouteError, match=said):
        start._open(server)


def test_what_is_wrong_with_a_deployment_is_said_at_the_start(tmp_path: Path) -> None:
    document = {
        "model_list": [{**MODEL, "model_info": {"id": "m1", "stageroute": {"max_share": 0.5}}}],
        "stageroute_settings": {"groups": GROUPS, "database_url": f"sqlite:///{tmp_path}/s.db"},
    }
    server = SimpleNamespace(
        proxy_config=SimpleNamespace(config=document), user_config_file_path=None, llm_router=None
    )
    with pytest.raises(SettingsError, match="max_share"):
        start._open(server)
    document["general_settings"] = {"store_model_in_db": True}
    document["stageroute_settings"]["groups"] = {"later": GROUPS["chat"]}  # type: ignore[index]
    start._open(server).close()


def test_a_proxy_with_wrong_settings_ends_with_one_message(
    tmp_path: Path, provider: SimulatedProvider
) -> None:
    configuration = {
        "model_list": provider.model_list("chat", ["small"]),
        "stageroute_settings": {"groups": {"chatt": {"budget_usd_per_call": 0.002}}},
    }
    with pytest.raises(ProxyEndedError) as caught, ProxyProcess(configuration, folder=tmp_path):
        pass
    assert caught.value.code == 3
    assert caught.value.output.count("stageroute_router: the proxy cannot start: ") == 1
    assert "did you mean 'chat'" in caught.value.output
    assert "Traceback" not in caught.value.output
    assert not (tmp_path / "stageroute.db").exists()


@pytest.mark.calls_litellm
def test_a_program_reads_the_same_file(
    tmp_path: Path,
    provider: SimulatedProvider,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("SR_URL", f"sqlite:///{tmp_path}/s.db")
    monkeypatch.setenv("SR_KEY", "simulated")
    models = provider.model_list("chat", ["small"], api_key="os.environ/SR_KEY")
    path = tmp_path / "config.yaml"
    document = {
        "model_list": models,
        "router_settings": {"num_retries": 7, "timeout": 30, "enable_whatever": True},
        "litellm_settings": {"callbacks": ["stageroute_router.proxy.plugin"]},
        "stageroute_settings": {"database_url": "os.environ/SR_URL", "groups": GROUPS, "seed": 3},
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    router = StageRouteRouter.from_config_file(path, timeout=60)
    with router.stageroute:
        response = router.completion(model="chat", messages=[{"role": "user", "content": "hello"}])
        assert router.record_reward(response, 1.0).status == "recorded"
        assert router.num_retries == 7
        assert router.timeout == 60
    assert (tmp_path / "s.db").exists()
    assert "router_settings.enable_whatever" in caplog.text


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"missing\.yaml cannot be read"):
        read_document(tmp_path / "missing.yaml")
    path = tmp_path / "config.yaml"
    path.write_text("api_key: [sk-secret", encoding="utf-8")
    with pytest.raises(SettingsError, match="line 1") as caught:
        read_document(path)
    assert "sk-secret" not in str(caught.value)
    path.write_text("- 1", encoding="utf-8")
    with pytest.raises(SettingsError, match="must be a mapping"):
        read_document(path)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(SettingsError, match="no model_list"):
        StageRouteRouter.from_config_file(path)
