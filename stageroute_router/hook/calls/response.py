"""Which call does the application mean: a response, a chunk, a stream, or an id?"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from stageroute_router.errors import NotAResponseError
from stageroute_router.process.ids import LONGEST_ID, is_id

_WRAPPED_PREFIX = "resp_"
_WRAPPED_ID = re.compile(r"^litellm:.*;response_id:(?P<id>.+)$", re.DOTALL)


def key_of(response: object) -> str:
    """Return the id under which a call's decision is found.

    Args:
        response: what a LiteLLM call returned (any response object, a stream, a chunk of it), or a response id,
            call id or decision id.

    The call id inside a response comes first: it is known from the moment of choice, while a response id is
    only known once LiteLLM has reported the call.

    Raises:
        NotAResponseError: there is no id in it. The message does not show it: it may be an answer.
    """
    if isinstance(response, str):
        plain = plain_response_id(response)
        if is_id(plain):
            return plain
        msg = (
            "record_reward needs what a LiteLLM call returned (a response, a stream or its last chunk) or an id; "
            f"it got text of {len(response)} characters, and an id is 1 to {LONGEST_ID} characters without spaces"
        )
        raise NotAResponseError(msg)
    call_id = field_of(field_of(response, "_hidden_params"), "litellm_call_id")
    logging_obj = field_of(response, "logging_obj")  # the streams of older versions have only this
    for found in (call_id, field_of(logging_obj, "litellm_call_id"), field_of(response, "id")):
        if isinstance(found, str) and found:
            return plain_response_id(found)
    msg = (
        f"record_reward needs what a LiteLLM call returned (a response, a stream or its last chunk) or an id; "
        f"it got something of type {type(response).__name__}, in which there is no id"
    )
    raise NotAResponseError(msg)


def plain_response_id(response_id: str) -> str:
    """Return the provider's own id of a response.

    LiteLLM wraps ids of the Responses API together with the deployment's, but not in every report of the same
    call. Any other id is returned as it is.

    >>> import base64
    >>> wrapped = "resp_" + base64.b64encode(b"litellm:model_id:m1;response_id:resp_7").decode()
    >>> plain_response_id(wrapped), plain_response_id("chatcmpl-1")
    ('resp_7', 'chatcmpl-1')
    """
    if not response_id.startswith(_WRAPPED_PREFIX):
        return response_id
    try:
        text = base64.b64decode(response_id[len(_WRAPPED_PREFIX) :], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return response_id
    wrapped = _WRAPPED_ID.match(text)
    return wrapped["id"] if wrapped else response_id


def field_of(holder: object, name: str) -> Any:  # noqa: ANN401 - a field of a foreign object
    """Return a field of a mapping or an object, or None."""
    if holder is None:
        return None
    if isinstance(holder, Mapping):
        return holder.get(name)
    return getattr(holder, name, None)
