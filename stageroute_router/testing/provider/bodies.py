"""OpenAI's JSON bodies and server-sent events, as the simulated provider sends them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stageroute_router.testing.provider.word_vectors import word_vector
from stageroute_router.testing.simulated_model import Outcome

Body = dict[str, Any]
_CHUNK = 24
_DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer, before it takes a route's form.

    Args:
        id: the response id.
        created: seconds since the epoch.
        text: the answer text.
        outcome: what the call came to; its token counts become the usage.
        inputs: the texts to embed; one that is given as tokens is empty. Of no meaning elsewhere.
        embedding_size: how many numbers an embedding has that depends on the text; None for one with the reward.
        call: the tool that is called instead of a text, with its arguments; None for a text.
    """

    id: str
    created: int
    text: str
    outcome: Outcome
    inputs: Sequence[str] = ("",)
    embedding_size: int | None = None
    call: tuple[str, Mapping[str, Any]] | None = None


def _usage(outcome: Outcome) -> Body:
    return {
        "prompt_tokens": outcome.prompt_tokens,
        "completion_tokens": outcome.completion_tokens,
        "total_tokens": outcome.prompt_tokens + outcome.completion_tokens,
    }


def _pieces(text: str) -> list[str]:
    return [text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK)] or [""]


def _events(payloads: Iterable[Body]) -> list[bytes]:
    return [b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n" for payload in payloads]


def _content_text(content: object) -> str | None:
    """Return the text of a message's content, which OpenAI takes as a string or as a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return None


def _last_user_text(messages: object) -> str | None:
    """Return what the last user message says; None when these are no messages."""
    if not isinstance(messages, list) or not messages:
        return None
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role", "user") == "user":
            return _content_text(message.get("content")) or ""
    return ""


def chat_prompt(body: Body) -> str | None:
    """Read the last user message of a chat request."""
    return _last_user_text(body.get("messages"))


def text_prompt(body: Body) -> str | None:
    """Read the prompt of a text completion request."""
    return _one_text(body.get("prompt"))


def embedding_prompt(body: Body) -> str | None:
    """Read the input of an embedding request; of several texts, the first."""
    return _one_text(body.get("input"))


def responses_prompt(body: Body) -> str | None:
    """Read the input of a request to the responses route."""
    asked = body.get("input")
    return asked if isinstance(asked, str) else _last_user_text(asked)


def embedded_texts(body: Body) -> Sequence[str]:
    """Return the texts that an embedding request has; one that is given as tokens is empty."""
    asked = body.get("input")
    if not isinstance(asked, list) or not asked or isinstance(asked[0], int):
        asked = [asked]
    return [text if isinstance(text, str) else "" for text in asked]


def tool_call(body: Body, arguments: Mapping[str, Mapping[str, Any]]) -> tuple[str, Mapping[str, Any]] | None:
    """Return which of a chat's tools is called now, and how: the first one that the chat has had no call of."""
    offered = {tool.get("function", {}).get("name") for tool in body.get("tools") or []}
    had = {
        call.get("function", {}).get("name")
        for message in body.get("messages") or []
        for call in message.get("tool_calls") or []
    }
    name = next((name for name in arguments if name in offered and name not in had), None)
    return None if name is None else (name, arguments[name])


def _one_text(asked: object) -> str | None:
    if isinstance(asked, list) and asked:
        # A list of texts, or a text as token numbers: the latter has no words to recognise.
        return asked[0] if isinstance(asked[0], str) else ""
    return asked if isinstance(asked, str) else None


def chat(answer: Answer) -> Body:
    """Build a chat completion."""
    message: Body = {"role": "assistant", "content": answer.text}
    if answer.call is not None:
        message = {"role": "assistant", "content": None, "tool_calls": [_tool_call(answer, answer.call)]}
    return {
        "id": answer.id,
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.outcome.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}],
        "usage": _usage(answer.outcome),
    }


def chat_events(answer: Answer, with_usage: bool) -> list[bytes]:  # noqa: FBT001 - one flag, one caller
    """Build a chat completion's stream: role, pieces, stop, and usage in a last chunk without choices."""
    head = {
        "id": answer.id,
        "object": "chat.completion.chunk",
        "created": answer.created,
        "model": answer.outcome.model,
    }
    deltas: list[Body] = [{"role": "assistant", "content": ""}]
    if answer.call is None:
        deltas += [{"content": piece} for piece in _pieces(answer.text)]
    else:
        call = _tool_call(answer, answer.call)
        whole, named = call["function"]["arguments"], {**call["function"], "arguments": ""}
        deltas.append({"tool_calls": [{"index": 0, **call, "function": named}]})
        deltas += [
            {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in _pieces(whole)
        ]
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": _finish(answer)}]})
    if with_usage:
        chunks.append({**head, "choices": [], "usage": _usage(answer.outcome)})
    return [*_events(chunks), _DONE]


def _finish(answer: Answer) -> str:
    return "stop" if answer.call is None else "tool_calls"


def _tool_call(answer: Answer, call: tuple[str, Mapping[str, Any]]) -> Body:
    name, arguments = call
    return {
        "id": f"call_{answer.id}",
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments)},
    }


def text(answer: Answer) -> Body:
    """Build a text completion."""
    return {
        "id": answer.id,
        "object": "text_completion",
        "created": answer.created,
        "model": answer.outcome.model,
        "choices": [{"index": 0, "text": answer.text, "logprobs": None, "finish_reason": "stop"}],
        "usage": _usage(answer.outcome),
    }


def text_events(answer: Answer, with_usage: bool) -> list[bytes]:  # noqa: FBT001 - as chat_events
    """Build a text completion's stream."""
    head = {
        "id": answer.id,
        "object": "text_completion",
        "created": answer.created,
        "model": answer.outcome.model,
    }
    choices: list[Body] = [
        {"index": 0, "text": piece, "finish_reason": None} for piece in _pieces(answer.text)
    ]
    choices.append({"index": 0, "text": "", "finish_reason": "stop"})
    chunks = [{**head, "choices": [choice]} for choice in choices]
    if with_usage:
        chunks.append({**head, "choices": [], "usage": _usage(answer.outcome)})
    return [*_events(chunks), _DONE]


def as_embedding(outcome: Outcome, *, input_usd_per_token: float) -> Outcome:
    """Return the outcome as an embedding's: all of its cost in prompt tokens, the only ones embeddings have."""
    tokens = outcome.prompt_tokens + outcome.completion_tokens
    if input_usd_per_token > 0.0:
        tokens = round(outcome.cost_usd / input_usd_per_token)
    return replace(outcome, prompt_tokens=tokens, completion_tokens=0, cost_usd=tokens * input_usd_per_token)


def embedding(answer: Answer) -> Body:
    """Build an embedding: per text a vector of its words, or of four numbers, the first of which is the reward."""
    outcome, size = answer.outcome, answer.embedding_size
    vectors = [
        [outcome.reward, 1.0, 0.0, 0.0] if size is None else word_vector(text, size=size)
        for text in answer.inputs
    ]
    return {
        "id": answer.id,
        "object": "list",
        "model": outcome.model,
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": outcome.prompt_tokens, "total_tokens": outcome.prompt_tokens},
    }


def responses(answer: Answer) -> Body:
    """Build a response of the responses route."""
    part = {"type": "output_text", "text": answer.text, "annotations": []}
    return _responses(answer, status="completed", output=[_responses_item(answer, content=[part])])


def responses_events(answer: Answer, with_usage: bool) -> list[bytes]:  # noqa: FBT001 - as chat_events
    """Build the responses route's events. Usage always comes with the last of them, as with OpenAI."""
    del with_usage
    place = {"item_id": f"msg_{answer.id}", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": answer.text, "annotations": []}
    item = _responses_item(answer, content=[part])
    payloads: list[Body] = [
        {"type": "response.created", "response": _responses(answer, status="in_progress", output=[])},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": _responses_item(answer, content=[]),
        },
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **place, "delta": piece} for piece in _pieces(answer.text)),
        {"type": "response.output_text.done", **place, "text": answer.text},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": responses(answer)},
    ]
    numbered = ({**payload, "sequence_number": number} for number, payload in enumerate(payloads))
    return [f"event: {payload['type']}\n".encode() + _events([payload])[0] for payload in numbered]


def _responses_item(answer: Answer, *, content: list[Body]) -> Body:
    status = "completed" if content else "in_progress"
    return {
        "type": "message",
        "id": f"msg_{answer.id}",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _responses(answer: Answer, *, status: str, output: list[Body]) -> Body:
    outcome = answer.outcome
    usage = {
        "input_tokens": outcome.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": outcome.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": outcome.prompt_tokens + outcome.completion_tokens,
    }
    return {
        "id": answer.id,
        "object": "response",
        "created_at": answer.created,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": outcome.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage if status == "completed" else None,
    }
