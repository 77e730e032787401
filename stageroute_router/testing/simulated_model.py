"""What a simulated model answers: outcomes drawn from a law, or read from a recording, and how it misbehaves."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from stageroute_router.errors import SettingsError

_BLOCK = 1024
_RATES = ("error_rate", "rate_limit_rate", "hang_rate", "broken_rate")
_NOT_NEGATIVE = (
    "prompt_tokens",
    "completion_tokens",
    "tokens_cv",
    "input_usd_per_token",
    "output_usd_per_token",
    "latency_s",
    "first_chunk_s",
    "rate_limit",
    "retry_after_s",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one simulated call came to. An application would judge the reward; here it is known.

    Args:
        model: the model that answered.
        reward: in [0, 1].
        cost_usd: tokens times the model's prices, US dollars: what LiteLLM computes for the call.
        prompt_tokens: prompt tokens in the answer's usage.
        completion_tokens: completion tokens in the answer's usage.
        row: the row of the recording it was read from, or None when it was drawn from a law.
    """

    model: str
    reward: float
    cost_usd: float
    prompt_tokens: int
    completion_tokens: int
    row: int | None = None

    def to_text(self) -> str:
        """Return the outcome as one line of JSON: the default answer text of a simulated model.

        >>> Outcome(model="a", reward=1.0, cost_usd=0.002, prompt_tokens=10, completion_tokens=5).to_text()
        '{"model":"a","reward":1.0,"cost_usd":0.002,"prompt_tokens":10,"completion_tokens":5,"row":null}'
        """
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Outcome:
        """Read an outcome back from an answer text, so that a client in another process can learn the reward.

        Args:
            text: the text of an answer.

        Raises:
            ValueError: the text is not a simulated model's default answer.

        >>> outcome = Outcome(model="a", reward=1.0, cost_usd=0.002, prompt_tokens=10, completion_tokens=5)
        >>> Outcome.from_text(outcome.to_text()) == outcome
        True
        """
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            message = (
                "this text is not the outcome of a simulated call; models with an `answer` of their own give it "
                "in the `x-simulated-outcome` header and in `SimulatedProvider.outcome` instead"
            )
            raise ValueError(message) from error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """One model's recorded outcomes, row by row.

    Args:
        rewards: float [Q], each in [0, 1].
        prompt_tokens: int [Q].
        completion_tokens: int [Q].
    """

    rewards: npt.NDArray[np.float64]
    prompt_tokens: npt.NDArray[np.int64]
    completion_tokens: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        """Check the shapes: one row per query, at least one."""
        shapes = {np.shape(getattr(self, column.name)) for column in fields(self)}
        if len(shapes) != 1 or len(shape := shapes.pop()) != 1 or shape[0] == 0:
            message = "a recording needs three columns of one length, at least 1; give every query one row"
            raise SettingsError(message)

    def __len__(self) -> int:
        return len(self.rewards)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedModel:
    """A model of the simulated provider: its prices, its outcomes, its faults.

    Outcomes come from ``recording`` where there is one. Otherwise rewards are 1 with probability
    ``reward_mean`` and else 0, and token counts have the given means.

    Args:
        name: the name requests ask for.
        reward_mean: mean reward, in [0, 1].
        prompt_tokens: mean prompt tokens of a call; need not be whole.
        completion_tokens: mean completion tokens of a call; need not be whole.
        tokens_cv: standard deviation of the token counts (and so of the cost) over their mean. One
            gamma-distributed factor scales both counts; 0 repeats the means.
        input_usd_per_token: price of a prompt token, US dollars.
        output_usd_per_token: price of a completion token, US dollars.
        recording: recorded outcomes to answer from instead.
        answer: fixed answer text; None answers with the outcome as JSON (:meth:`Outcome.from_text`).
        tool_arguments: arguments by name of a tool. A chat that offers such tools is answered by a call of the first
            one that it has not had a call of yet; when it has had all of them, by text.
        embedding_size: how many numbers an embedding has that depends on its text alone, as a real model's do: texts
            that share words are near each other, see
            :func:`~stageroute_router.testing.provider.word_vectors.word_vector`. None (default): four numbers, of which
            the first is the reward.
        latency_s: seconds until a whole answer.
        first_chunk_s: seconds until a stream's first chunk; None means ``latency_s``. The rest of
            ``latency_s`` is spread over the other chunks.
        always_stream_usage: send a stream's usage unasked. LiteLLM asks for it by itself only where it talks
            to OpenAI's own host, so a simulation of OpenAI must send it, or LiteLLM guesses the cost by
            counting tokens of the text. False sends it only on ``stream_options.include_usage``.
        error_rate: fraction of requests answered with ``error_status``.
        error_status: the HTTP status of those.
        rate_limit: how many requests are answered before every further one gets a 429; None for no limit.
        rate_limit_rate: fraction of requests answered with a 429.
        retry_after_s: the ``Retry-After`` of a 429, seconds.
        hang_rate: fraction of requests that are never answered.
        broken_rate: fraction of answers that break off in the middle.

    Raises:
        SettingsError: a rate outside [0, 1], a negative count, price or time, or an embedding without numbers.
    """

    name: str
    reward_mean: float = 1.0
    prompt_tokens: float = 100.0
    completion_tokens: float = 50.0
    tokens_cv: float = 0.0
    input_usd_per_token: float = 1e-6
    output_usd_per_token: float = 1e-6
    recording: Recording | None = None
    answer: str | None = None
    tool_arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    embedding_size: int | None = None
    latency_s: float = 0.0
    first_chunk_s: float | None = None
    always_stream_usage: bool = True
    error_rate: float = 0.0
    error_status: int = 500
    rate_limit: int | None = None
    rate_limit_rate: float = 0.0
    retry_after_s: float = 1.0
    hang_rate: float = 0.0
    broken_rate: float = 0.0

    def __post_init__(self) -> None:
        """Check every number's domain."""
        for name in ("reward_mean", *_RATES):
            if not 0.0 <= (value := getattr(self, name)) <= 1.0:
                message = f"simulated model {self.name!r}: {name} must lie in [0, 1], not {value!r}"
                raise SettingsError(message)
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            if value is not None and not 0.0 <= value < float("inf"):
                message = f"simulated model {self.name!r}: {name} must be 0 or more, not {value!r}"
                raise SettingsError(message)
        if self.embedding_size is not None and self.embedding_size < 1:
            message = f"simulated model {self.name!r}: embedding_size must be 1 or more, not {self.embedding_size!r}"
            raise SettingsError(message)

    @property
    def mean_cost_usd(self) -> float:
        """Expected cost of a call in US dollars.

        >>> SimulatedModel(name="a", prompt_tokens=100, completion_tokens=50).mean_cost_usd
        0.00015
        """
        prompt, completion = self.prompt_tokens, self.completion_tokens
        if self.recording is not None:
            prompt = float(np.mean(self.recording.prompt_tokens))
            completion = float(np.mean(self.recording.completion_tokens))
        return prompt * self.input_usd_per_token + completion * self.output_usd_per_token

    def with_faults(self, changes: Mapping[str, Any]) -> SimulatedModel:
        """Return the model with some of its times and fault rates changed.

        Args:
            changes: new values by field name; ``rate_limited`` and ``hang`` are short for
                ``rate_limit_rate`` and ``hang_rate`` of 1 (True) or 0 (False).

        Raises:
            SettingsError: a name that is none of the times and faults, or a value out of its domain.
        """
        settings = dict(changes)
        for short, rate in (("rate_limited", "rate_limit_rate"), ("hang", "hang_rate")):
            if short in settings:
                settings[rate] = float(bool(settings.pop(short)))
        unknown = settings.keys() - _SETTABLE
        if unknown:
            known = ", ".join(sorted({*_SETTABLE, "rate_limited", "hang"}))
            message = f"cannot set {', '.join(sorted(unknown))} of a simulated model; one can set {known}"
            raise SettingsError(message)
        return replace(self, **settings)

    def to_json(self) -> dict[str, Any]:
        """Return the model as JSON values, to start a provider in another process with."""
        values = {column.name: getattr(self, column.name) for column in fields(self)}
        if self.recording is not None:
            columns = fields(self.recording)
            values["recording"] = {
                column.name: np.asarray(getattr(self.recording, column.name)).tolist() for column in columns
            }
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SimulatedModel:
        """Read a model back from :meth:`to_json`.

        Args:
            values: what :meth:`to_json` made.

        Raises:
            SettingsError: an unknown field, or a value out of its domain.
        """
        settings = dict(values)
        unknown = settings.keys() - {column.name for column in fields(cls)}
        if unknown or "name" not in settings:
            message = (
                f"a simulated model has a `name` and no field {', '.join(sorted(unknown)) or 'without one'}"
            )
            raise SettingsError(message)
        if settings.get("recording") is not None:
            columns = settings["recording"]
            settings["recording"] = Recording(
                rewards=np.asarray(columns["rewards"], dtype=np.float64),
                prompt_tokens=np.asarray(columns["prompt_tokens"], dtype=np.int64),
                completion_tokens=np.asarray(columns["completion_tokens"], dtype=np.int64),
            )
        return cls(**settings)


_SETTABLE = frozenset(
    {
        *_RATES,
        "latency_s",
        "first_chunk_s",
        "always_stream_usage",
        "error_status",
        "rate_limit",
        "retry_after_s",
    }
)


class OutcomeDraws:
    """The outcomes of one model, call by call: a function of the seed and of the calls made before.

    Each model draws from a generator of its own, so calls to one model do not change what another answers.

    Args:
        model: the model.
        seed: any non-negative number.

    >>> model = SimulatedModel(name="a", reward_mean=0.5)
    >>> [OutcomeDraws(model, seed=1).next().reward for _ in range(3)]  # the same first draw each time
    [1.0, 1.0, 1.0]
    """

    def __init__(self, model: SimulatedModel, *, seed: int) -> None:
        self._model = model
        self._random = np.random.default_rng([seed, zlib.crc32(model.name.encode())])
        self._drawn: list[tuple[float, int, int, int | None]] = []

    def next(self, row: int | None = None) -> Outcome:
        """Return the outcome of the next call.

        Args:
            row: the row of the recording to answer from. None draws one; a model without a recording, or
                with a shorter one, always draws.
        """
        recording = self._model.recording
        if recording is not None and row is not None and 0 <= row < len(recording):
            return self._outcome(*self._recorded(recording, row))
        if not self._drawn:
            self._drawn = self._draw_block()
        return self._outcome(*self._drawn.pop())

    def _recorded(self, recording: Recording, row: int) -> tuple[float, int, int, int | None]:
        return (
            float(recording.rewards[row]),
            int(recording.prompt_tokens[row]),
            int(recording.completion_tokens[row]),
            row,
        )

    def _draw_block(self) -> list[tuple[float, int, int, int | None]]:
        model, random = self._model, self._random
        if model.recording is not None:
            rows = random.integers(len(model.recording), size=_BLOCK)
            return [self._recorded(model.recording, int(row)) for row in rows]
        rewards = (random.random(_BLOCK) < model.reward_mean).astype(float)
        factor = np.ones(_BLOCK)
        if model.tokens_cv > 0.0:
            factor = random.gamma(model.tokens_cv**-2, model.tokens_cv**2, size=_BLOCK)
        # Rounded up or down at random, so that the means are met however few tokens a call has.
        prompt = np.floor(factor * model.prompt_tokens + random.random(_BLOCK)).astype(int)
        completion = np.floor(factor * model.completion_tokens + random.random(_BLOCK)).astype(int)
        no_row: list[None] = [None] * _BLOCK
        return list(zip(rewards.tolist(), prompt.tolist(), completion.tolist(), no_row, strict=True))

    def _outcome(self, reward: float, prompt: int, completion: int, row: int | None) -> Outcome:
        model = self._model
        return Outcome(
            model=model.name,
            reward=reward,
            cost_usd=prompt * model.input_usd_per_token + completion * model.output_usd_per_token,
            prompt_tokens=prompt,
            completion_tokens=completion,
            row=row,
        )
