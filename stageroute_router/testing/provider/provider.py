"""A provider on loopback that speaks OpenAI's API and answers from tables: for tests, demos and benchmarks.

In a program::

    with SimulatedProvider([SimulatedModel(name="small", reward_mean=0.6)], seed=0) as provider:
        router = litellm.Router(model_list=provider.model_list("chat"))
        response = router.completion(model="chat", messages=[{"role": "user", "content": "hello"}])
        provider.outcome(response).reward

As a command: ``python -m stageroute_router.testing.provider --table outcomes.npz``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from stageroute_router.errors import SettingsError
from stageroute_router.testing.provider.hosts import LOOPBACK, Host, ProcessHost, ThreadHost
from stageroute_router.testing.simulated_model import Outcome, SimulatedModel

__all__ = ["Outcome", "SimulatedModel", "SimulatedProvider"]

_OUTCOME_HEADER = "x-simulated-outcome"


class SimulatedProvider:
    """An OpenAI-compatible HTTP server on loopback whose answers, costs and faults are known.

    Routes: ``/v1/chat/completions``, ``/v1/completions``, ``/v1/responses`` (each also ``stream: true``),
    ``/v1/embeddings``, ``/v1/models``. The ``model`` named in a request answers with its outcome: the recorded
    one of a row, where the request names a row (``user="row:17"``, or ``row`` in ``extra_body``) or its last
    user message is one of ``prompts``; else one drawn from the model's law. Answers are reproducible: a
    model's n-th drawn outcome and fault depend on the seed and n only.

    Nothing of a request is kept or logged.

    Args:
        models: the models served, at least one, names unique.
        seed: of all draws.
        prompts: text of each row of the models' recordings, None where unknown. Of equal texts the first answers.
        port: TCP port; 0 takes a free one.
        process: serve from a process of its own, so that the server does not share the client's
            interpreter lock: for benchmarks. Otherwise from a thread.

    Raises:
        SettingsError: no model, or two of one name.

    ```python
    from stageroute_router.testing.provider.provider import SimulatedProvider
    from stageroute_router.testing.simulated_model import SimulatedModel

    with SimulatedProvider([SimulatedModel(name="small", reward_mean=0.6)], seed=0) as simulated:
        deployment = simulated.deployment("small", "chat")  # an entry of LiteLLM's model_list
        assert simulated.model_list("chat") == [deployment]
        assert deployment["litellm_params"]["api_base"] == f"{simulated.url}/v1"
    ```
    """

    def __init__(
        self,
        models: Sequence[SimulatedModel],
        *,
        seed: int = 0,
        prompts: Sequence[str | None] = (),
        port: int = 0,
        process: bool = False,
    ) -> None:
        check_models(models)
        self.models = {model.name: model for model in models}
        self._host: Host = (ProcessHost if process else ThreadHost)(
            models, seed=seed, prompts=prompts, port=port
        )
        self._port: int | None = None

    def start(self) -> SimulatedProvider:
        """Start serving; returns the provider itself once it accepts connections.

        Raises:
            OSError: the port is taken.
            RuntimeError: already started.

        ```python
        simulated = SimulatedProvider([SimulatedModel(name="small")], seed=0).start()
        print(simulated.url)
        simulated.stop()
        ```
        """
        if self._port is not None:
            message = f"the simulated provider already serves at {self.url}; stop it first"
            raise RuntimeError(message)
        self._port = self._host.start()
        return self

    def stop(self) -> None:
        """Stop serving and drop open requests. Does nothing when not started."""
        if self._port is not None:
            self._port = None
            self._host.stop()

    def __enter__(self) -> SimulatedProvider:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it serves, for example ``http://127.0.0.1:40123``; OpenAI's base URL is this plus ``/v1``."""
        return f"http://{LOOPBACK}:{self._started_port()}"

    def deployment(self, model: str, group: str, **extra: object) -> dict[str, Any]:
        """Return an entry of LiteLLM's ``model_list`` for a model, with its prices.

        Args:
            model: name of the model.
            group: LiteLLM's ``model_name``.
            **extra: further ``litellm_params`` (``weight``, ``order``, ``tags``, ``timeout``, …), except
                ``model_info``, which is merged into the entry's own. Replicas of one model need
                ``model_info={"id": …}``: the id is ``group/model`` otherwise.

        Raises:
            SettingsError: no such model.
        """
        simulated = self._model(model)
        return {
            "model_name": group,
            "litellm_params": {
                "model": f"openai/{model}",
                "api_base": f"{self.url}/v1",
                "api_key": "simulated",
                "input_cost_per_token": simulated.input_usd_per_token,
                "output_cost_per_token": simulated.output_usd_per_token,
                **{name: value for name, value in extra.items() if name != "model_info"},
            },
            "model_info": {"id": f"{group}/{model}", **_mapping(extra.get("model_info", {}))},
        }

    def model_list(
        self, group: str, models: Iterable[str] | None = None, **extra: object
    ) -> list[dict[str, Any]]:
        """Return LiteLLM's ``model_list`` of a group.

        Args:
            group: LiteLLM's ``model_name``.
            models: names of the models; all by default.
            **extra: as for :meth:`deployment`.
        """
        names = self.models if models is None else models
        return [self.deployment(name, group, **extra) for name in names]

    def outcome(self, response: object) -> Outcome:
        """Return what a call came to, as the application would judge it.

        Args:
            response: a response of LiteLLM or OpenAI's client (any route), a chunk of a stream, or a
                response id. Embeddings have no id: there it is read from the response's headers.

        Raises:
            LookupError: no answer of this provider has that id (or it was 200,000 answers ago).

        ```python
        outcome = provider.outcome(response)
        assert outcome.model in {"small", "large"}
        router.record_reward(response, outcome.reward)
        ```
        """
        header = _outcome_header(response)
        if header is not None:
            return Outcome.from_text(header)
        name = response if isinstance(response, str) else _id_of(response)
        if name is None:
            message = f"a {type(response).__name__} without an id is no response of the simulated provider"
            raise LookupError(message)
        outcome = self._host.outcome(_provider_id(name))
        if outcome is None:
            message = f"the simulated provider gave no answer with the id {name!r}"
            raise LookupError(message)
        return outcome

    def set(self, model: str, **changes: object) -> None:
        """Change a model's times and faults from the next request on.

        Args:
            model: name of the model.
            **changes: any of ``latency_s``, ``first_chunk_s``, ``always_stream_usage``, ``error_rate``,
                ``error_status``, ``rate_limit``, ``rate_limit_rate``, ``retry_after_s``, ``hang_rate``,
                ``broken_rate`` as in :class:`SimulatedModel`; ``rate_limited`` and ``hang`` (True or False)
                switch the whole model.

        Raises:
            SettingsError: no such model, nothing that can be set, or a value out of its domain.

        ```python
        provider.set("large", error_rate=1.0, error_status=503)  # an outage
        provider.set("large", error_rate=0.0)
        ```
        """
        self.models[model] = self._model(model).with_faults(changes)
        self._host.request("POST", "/simulated/set", {"model": model, "changes": changes})

    def counts(self, model: str) -> dict[str, int]:
        """Return how many ``requests`` a model got, and how many of them were ``answered``, or ended as
        ``errors``, ``rate_limited``, ``hung`` or ``broken``.

        Args:
            model: name of the model.

        Raises:
            SettingsError: no such model.

        ```python
        assert sum(provider.counts(model)["answered"] for model in ("small", "large")) == 1
        ```
        """  # noqa: D205 - a list of names does not fit one line
        self._model(model)
        counts = self._host.request("GET", "/simulated/counts")
        return dict(counts[model])

    def _model(self, name: str) -> SimulatedModel:
        model = self.models.get(name)
        if model is None:
            message = f"the simulated provider has no model {name!r}; it has {', '.join(self.models)}"
            raise SettingsError(message)
        return model

    def _started_port(self) -> int:
        if self._port is None:
            message = "the simulated provider is not started: use it as a context manager or call start()"
            raise RuntimeError(message)
        return self._port


def check_models(models: Sequence[SimulatedModel]) -> None:
    names = [model.name for model in models]
    if not names:
        message = "a simulated provider needs at least one model; give it SimulatedModel(name=…)"
        raise SettingsError(message)
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        message = f"two simulated models are called {', '.join(sorted(twice))}; names must differ"
        raise SettingsError(message)


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        message = f"model_info must be a dict, not {value!r}"
        raise SettingsError(message)
    return value


def _id_of(response: object) -> str | None:
    name = response.get("id") if isinstance(response, Mapping) else getattr(response, "id", None)
    return name if isinstance(name, str) else None


def _outcome_header(response: object) -> str | None:
    """Return the outcome that LiteLLM passes on among a response's headers, where it does."""
    hidden = getattr(response, "_hidden_params", None)
    headers = hidden.get("additional_headers") if isinstance(hidden, Mapping) else None
    if not isinstance(headers, Mapping):
        return None
    value = headers.get(f"llm_provider-{_OUTCOME_HEADER}")
    return value if isinstance(value, str) else None


def _provider_id(response_id: str) -> str:
    """Return our own id of a response: LiteLLM wraps those of the responses route in base64."""
    if response_id.startswith("resp_") and "simulated" not in response_id:
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):
            plain = base64.b64decode(response_id[5:] + "==").decode()
            if (found := re.search(r"resp_simulated\d+", plain)) is not None:
                return found[0]
    return response_id
