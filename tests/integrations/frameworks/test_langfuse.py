"""Langfuse: scores of traces and observations become rewards of what was routed inside."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from langfuse import Langfuse
from opentelemetry import trace

from stageroute_router import SettingsError, StageRouteRouter, UnknownDecisionError
from stageroute_router.integrations.langfuse import Traces, follow, pull_scores

ASK = [{"role": "user", "content": "hello"}]
EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Service(ThreadingHTTPServer):
    """What Langfuse's client sees of the service: it takes spans and scores, and lists scores by name and trace."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Requests)
        self.received = b""
        self.scores: list[dict[str, Any]] = []
        self.page = 2


class Requests(BaseHTTPRequestHandler):
    """Answers the requests of Langfuse's client."""

    server: Service

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        found = [
            one
            for one in self.server.scores
            if one["name"] in query["name"].split(",")
            and one["subject"].get("traceId", one["subject"]["id"]) in query["traceId"].split(",")
        ]
        start = int(base64.urlsafe_b64decode(query["cursor"])) if "cursor" in query else 0
        end = start + self.server.page
        meta: dict[str, Any] = {"limit": int(query["limit"])}
        if end < len(found):
            meta["cursor"] = base64.urlsafe_b64encode(str(end).encode()).decode()
        self._reply({"data": found[start:end], "meta": meta})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "otel" in self.path:
            self.server.received += body
            return self._reply({})
        for given in json.loads(body):
            trace_id, observation_id = given["traceId"], given.get("observationId")
            subject = {"kind": "trace", "id": trace_id}
            if observation_id:
                subject = {"kind": "observation", "id": observation_id, "traceId": trace_id}
            at = (EPOCH + timedelta(len(self.server.scores))).isoformat()
            number = not isinstance(given["value"], str)
            self.server.scores.append(
                {
                    "id": given["id"],
                    "projectId": "p",
                    "name": given["name"],
                    "value": given["value"],
                    "dataType": "NUMERIC" if number else "CATEGORICAL",
                    "source": "API",
                    "environment": "default",
                    **dict.fromkeys(("timestamp", "createdAt", "updatedAt"), at),
                    "subject": subject,
                }
            )
        return self._reply({"message": "Accepted"})

    def _reply(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service() as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def langfuse(service: Service) -> Iterator[Langfuse]:
    """The one client of the process, as get_client() returns it: with a second one it would return none."""
    made = Langfuse(
        public_key="unused",
        secret_key="unused",  # noqa: S106
        base_url=f"http://127.0.0.1:{service.server_port}",
        otel_compression="none",
    )
    yield made
    made.shutdown()


@pytest.fixture
def traces(router: StageRouteRouter, langfuse: Langfuse) -> Traces:
    return follow(router)


def given(router: StageRouteRouter, traces: Traces, run_id: str) -> list[dict[str, float]]:
    return [dict(router.stageroute.receipt(made).rewards) for made in traces.runs.decisions(run_id)]


def test_scores_become_rewards(
    router: StageRouteRouter, langfuse: Langfuse, traces: Traces, service: Service
) -> None:
    ids = []
    for _ in range(3):
        with langfuse.start_as_current_observation(name="answer") as answer:
            router.completion(model="chat", messages=ASK)
            with langfuse.start_as_current_observation(name="check") as check:
                router.completion(model="chat", messages=ASK)
            ids.append((answer.trace_id, check.id))
    router.completion(model="chat", messages=ASK)  # outside
    assert [len(traces.runs.decisions(trace_id)) for trace_id, _ in ids] == [2, 2, 2]
    langfuse.create_score(name="stars", value=4, trace_id=ids[0][0])
    langfuse.create_score(name="right", value=0.0, trace_id=ids[1][0], observation_id=ids[1][1])
    langfuse.create_score(name="right", value=1.0, trace_id=ids[1][0], observation_id=ids[1][1])
    langfuse.create_score(name="stars", value=9, trace_id=ids[2][0])  # not on the scale
    langfuse.create_score(name="right", value="yes", trace_id=ids[2][0])  # no number
    langfuse.create_score(name="other", value=1, trace_id=ids[2][0])
    langfuse.flush()
    assert bytes.fromhex(ids[0][0]) in service.received  # Langfuse knows the traces by these ids
    assert len(service.scores) == 6
    receipts = pull_scores(traces, names={"stars": (1, 5), "right": (0, 1)}, client=langfuse)
    assert len(receipts) == 4
    assert given(router, traces, ids[0][0]) == [{"langfuse:stars": 0.75}] * 2
    assert given(router, traces, ids[1][0]) == [{}, {"langfuse:right": 1.0}]
    assert given(router, traces, ids[2][0]) == [{}, {}]


async def test_traces_side_by_side_are_kept_apart(
    router: StageRouteRouter, langfuse: Langfuse, traces: Traces
) -> None:
    async def ask() -> str:
        with langfuse.start_as_current_observation(name="ask") as span:
            await asyncio.gather(*(router.acompletion(model="chat", messages=ASK) for _ in range(2)))
            return str(span.trace_id)

    ids = await asyncio.gather(*(ask() for _ in range(3)))
    decisions = [traces.runs.decisions(trace_id) for trace_id in ids]
    assert [len(made) for made in decisions] == [2, 2, 2]
    assert len({one for made in decisions for one in made}) == 6
    assert len(traces.record_reward(ids[0], 0.5)) == 2
    assert given(router, traces, ids[0]) == [{"app": 0.5}] * 2


def test_what_cannot_be_done_is_told(router: StageRouteRouter, traces: Traces, langfuse: Langfuse) -> None:
    with pytest.raises(UnknownDecisionError, match="forgotten"):
        traces.record_reward("0" * 32, 1.0)
    with pytest.raises(SettingsError, match="two different numbers"):
        pull_scores(traces, names={"stars": (2, 2)}, client=langfuse)
    with pytest.raises(SettingsError, match="tracer provider"):
        follow(router, tracer_provider=object())


def test_the_pages_example(router: StageRouteRouter, langfuse: Langfuse, documented: dict[str, Any]) -> None:
    trace_id, text = documented["answer"]("hello")
    assert text
    assert len(documented["traces"].record_reward(trace_id, 0.9)) == 1


def test_the_examples_of_the_adapter(
    router: StageRouteRouter, langfuse: Langfuse, traces: Traces, shows: Callable[..., None]
) -> None:
    with langfuse.start_as_current_observation(name="answer") as answer:
        router.completion(model="chat", messages=ASK)
    langfuse.create_score(name="stars", value=5, trace_id=answer.trace_id)
    langfuse.flush()
    shows("langfuse", traces=traces)
    shows("spans", tracer_provider=trace.get_tracer_provider())
