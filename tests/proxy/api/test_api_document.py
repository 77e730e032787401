"""The description of the endpoints: valid, complete, and true of what a real server answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, seed, settings
from openapi_spec_validator import validate
from schemathesis.checks import CHECKS

if TYPE_CHECKING:
    from collections.abc import Callable

    from stageroute_router import StageRouteRouter
    from tests.proxy.api.conftest import Served

MASTER = "sk-master-of-these-tests"
EXAMPLES = 12


@pytest.fixture
def document(served: Served) -> dict[str, Any]:
    with served.client("sk-anna") as client:
        found: dict[str, Any] = client.get("/stageroute/openapi.json").json()
    return found


def test_it_is_a_valid_document_of_all_endpoints(document: dict[str, Any]) -> None:
    validate(document)
    described = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert described == {
        ("post", "/stageroute/reward"),
        ("delete", "/stageroute/reward"),
        ("get", "/stageroute/status"),
        ("get", "/stageroute/stages"),
        ("get", "/stageroute/history"),
        ("get", "/stageroute/decisions/{id}"),
        ("get", "/stageroute/health"),
        ("post", "/stageroute/groups/{group}/redeploy"),
        ("post", "/stageroute/groups/{group}/pin"),
        ("get", "/stageroute/openapi.json"),
    }


def test_everything_is_explained(document: dict[str, Any]) -> None:
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert operation["description"]
            assert {"200", "401", "403", "429", "500", "503"} <= operation["responses"].keys()
            assert all(parameter["description"] for parameter in operation.get("parameters", ()))
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"], name
        for field, shape in schema["properties"].items():
            assert shape.get("description") or "$ref" in shape, f"{name}.{field}"


def test_the_applications_own_document_has_the_endpoints_too(served: Served) -> None:
    from stageroute_router.proxy.api import api_router  # noqa: PLC0415 - imports the proxy's key check

    app = FastAPI()
    app.include_router(api_router(served.routing))
    document = app.openapi()
    validate(document)
    assert "/stageroute/reward" in document["paths"]


# The server runs in this process, and LiteLLM draws from the global randomness while requests are being made up.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
def test_real_answers_are_as_described(
    serve: Callable[..., Served], routers: Callable[..., StageRouteRouter]
) -> None:
    """Requests made from the description, right and wrong ones, against a server; with all of schemathesis' checks."""
    served = serve(routers(), sources=("client", "judge"))
    url = f"{served.url}/stageroute/openapi.json"
    headers = {"Authorization": f"Bearer {MASTER}"}
    schema = schemathesis.openapi.from_url(url, headers=headers)
    checked: set[str] = set()
    for result in schema.get_all_operations():
        operation = result.ok()

        @seed(20250617)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(
            case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
            | operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
        )
        def drive(case: schemathesis.Case) -> None:
            answer = case.call(headers=headers)
            # A reward of a batch that breaks the rules is refused in its place, and the others are taken.
            taken = isinstance(case.body, list) and answer.status_code == 200
            excluded = CHECKS.get_by_names(["negative_data_rejection"]) if taken else []
            case.validate_response(answer, headers=headers, checks=CHECKS.get_all(), excluded_checks=excluded)
            if taken:
                assert len(answer.json()) == len(case.body)

        drive()
        checked.add(operation.label)
    assert len(checked) == 9  # all but the description itself
