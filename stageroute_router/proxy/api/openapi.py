"""The endpoints' own OpenAPI document: LiteLLM's has hundreds of paths, and a generated client needs these few."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.routing import BaseRoute

from stageroute_router.proxy.api.problems import Problem, invalid_input
from stageroute_router.proxy.api.rewards import MOST_REWARDS, RewardReport, RewardTaken
from stageroute_router.reports import status, values
from stageroute_router.reports.endpoints import PREFIX
from stageroute_router.store import health

# What is sent to pin an arm, checked.


class PinReport(BaseModel):
    """Whether an arm is live in every stage, whatever the configuration says."""

    model_config = ConfigDict(extra="forbid", strict=True)

    arm: str = Field(min_length=1, max_length=256, description="The arm, as the status names it.")
    pinned: bool | None = Field(
        description="`true`: live in every stage from now on. `false`: by its worth, even if the configuration "
        "pins it. `null`: forget what was said, and go by the configuration again."
    )


def read_pin(body: bytes) -> PinReport:
    """Return what a body says.

    Raises:
        Problem: it cannot be understood.
    """
    try:
        return PinReport.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        raise Problem(422, "malformed_body", invalid_input(found)) from None


_REPORT = RewardReport.model_json_schema()
_REFERENCE = {"$ref": f"#/components/schemas/{_REPORT['title']}"}
_PIN = PinReport.model_json_schema()
_MAY_BE_INFINITE = {"shadow_price", "reward_ucb", "cost_lcb_usd"}

REWARD_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "anyOf": [
                    _REPORT,
                    {"type": "array", "items": _REPORT, "minItems": 1, "maxItems": MOST_REWARDS},
                ]
            },
            "examples": {
                "one": {"summary": "One reward", "value": {"id": "chatcmpl-9f2c", "reward": 0.9}},
                "batch": {
                    "summary": "A batch",
                    "value": [
                        {"id": "chatcmpl-9f2c", "reward": 0.9},
                        {"id": "chatcmpl-41ab", "reward": 0, "source": "client"},
                    ],
                },
            },
        }
    },
}
"""How a reward is sent, as OpenAPI says it."""


PIN_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": _PIN,
            "examples": {
                "pin": {"summary": "Live in every stage", "value": {"arm": "openai/gpt-x", "pinned": True}},
                "forget": {
                    "summary": "As the configuration says",
                    "value": {"arm": "openai/gpt-x", "pinned": None},
                },
            },
        }
    },
}
"""How an arm is pinned, as OpenAPI says it."""


class ErrorInfo(BaseModel):
    """What was wrong."""

    message: str = Field(description="What was wrong and what to do, for people.")
    type: str = Field(description="Of which kind it is, as OpenAI's clients sort errors.")
    code: str = Field(description="What it is, for programs.")


class ErrorAnswer(BaseModel):
    """The answer to a request that cannot be answered as it wished."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "message": "reward: a reward is a finite number in [0, 1]; scale it",
                        "type": "invalid_request_error",
                        "code": "bad_reward",
                    }
                }
            ]
        }
    )

    error: ErrorInfo


class BatchTaken(RewardTaken):
    """What a reward of a batch did."""

    code: int = Field(description="The status that it would have had alone: 200 or 202.")


class BatchRefused(ErrorAnswer):
    """Why a reward of a batch was not taken."""

    code: int = Field(description="The status that it would have had alone: 400, 403, 404 or 422.")


_COMMON = (401, 403, 429, 500, 503)
_REFUSALS = {
    400: "The reward is not a finite number in [0, 1], or the token cannot be accepted.",
    401: "There is no valid key.",
    403: "The key is valid and may not do this.",
    404: "There is no such group, arm or call.",
    409: "The arm cannot be pinned beside the others: the message says why. Nothing was changed.",
    413: "The body is too large.",
    422: "The request cannot be understood: the message says which part.",
    429: "LiteLLM refuses the key for now, because it has used up its budget.",
    500: "Something went wrong inside; the proxy's log says what.",
    503: "Nothing was counted: the database does not answer in time, or the proxy has just started. Try again.",
}


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return what an endpoint answers with these statuses and those of all, as FastAPI wants to hear it."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in sorted({*codes, *_COMMON}):
        found[code] = {"model": ErrorAnswer, "description": _REFUSALS[code]}
        if code == 503:
            found[code]["headers"] = {
                "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}
            }
    return found


def describe(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """Return the OpenAPI document of some routes."""
    document = get_openapi(
        title="StageRoute",
        version=_version(),
        summary="Rewards, status and steering of StageRoute in LiteLLM's proxy",
        description="Amounts are US dollars, times seconds since the epoch, rewards in [0, 1]. `null` stands for a "
        "number that there is not, or that is infinite. Keys are those of the proxy.",
        routes=routes,
    )
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "A key of LiteLLM's proxy."}
    }
    for path in document["paths"].values():
        for operation in path.values():
            operation["security"] = [{"key": []}]
    schemas = document["components"]["schemas"]
    schemas[_REPORT["title"]] = _REPORT
    body = document["paths"][f"{PREFIX}/reward"]["post"]["requestBody"]["content"]["application/json"]
    body["schema"] = json.loads(
        json.dumps(body["schema"]).replace(json.dumps(_REPORT), json.dumps(_REFERENCE))
    )
    schemas[_PIN["title"]] = _PIN
    body = document["paths"][PREFIX + "/groups/{group}/pin"]["post"]["requestBody"]["content"]
    body["application/json"] = {
        **body["application/json"],
        "schema": {"$ref": f"#/components/schemas/{_PIN['title']}"},
    }
    _explain(schemas)
    return document


def _explain(schemas: dict[str, Any]) -> None:
    """Say of each field what the documentation in Python says, and that infinity travels as null."""
    for module in (health, values, status):
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if name not in schemas:
                continue
            told = inspect.getdoc(kind) or ""
            schemas[name]["description"] = _plain(told.split("\n\nArgs:")[0])
            told_of = dict(re.findall(r"^    (\w+): ((?:.|\n {8})+)", told, flags=re.MULTILINE))
            for field, schema in schemas[name].get("properties", {}).items():
                schema["description"] = _plain(told_of.get(field, told))
                if schema.get("type") == "number" and field in _MAY_BE_INFINITE:
                    schema["anyOf"] = [{"type": schema.pop("type")}, {"type": "null"}]


def _plain(text: str) -> str:
    """Return a docstring's words as readers of JSON know them."""
    return (
        re.sub(r"\s+", " ", text).replace("``", "`").replace("None", "null").replace("False", "false").strip()
    )


def _version() -> str:
    try:
        return version("stageroute-router")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "0"
