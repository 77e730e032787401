"""What LiteLLM's proxy calls: before each request is routed, and before its response goes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from stageroute_router.hook.observer import NOTE
from stageroute_router.hook.origin import GIVEN, NOTES, ORIGIN, Origin, origin_of
from stageroute_router.proxy.caller import Authenticated, alias_of, caller_of, teams_of
from stageroute_router.proxy.headers import ResponseHeaders
from stageroute_router.proxy.reward_key import key_in
from stageroute_router.proxy.routing import AttachedRouting

_CALL_ID_HEADER = "x-litellm-call-id"


class ProxyCallbacks(CustomLogger):
    """The object that ``litellm_settings.callbacks`` names.

    Args:
        routing: the routing of the proxy of this process.
    """

    def __init__(self, routing: AttachedRouting) -> None:
        super().__init__()
        self.routing = routing
        self._headers = ResponseHeaders()

    async def async_pre_call_hook(
        self,
        user_api_key_dict: Authenticated,
        cache: object,
        data: dict[str, Any],
        call_type: str,
    ) -> None:
        """See that the call will be routed, and note whose it is. What the client wrote in our places is removed.

        What it says to us under ``"stageroute"`` stays: the names of segments are checked where they are used.
        """
        self.routing.ensure()
        notes = [data[key] for key in NOTES if isinstance(data.get(key), dict)]
        if any(isinstance(held.get(ORIGIN), Origin) for held in notes):
            return  # asked twice for one request
        for held in notes:
            held.pop(NOTE, None)
            held.pop(ORIGIN, None)
        if not notes:
            notes = [data.setdefault("metadata", {})]
        caller = caller_of(user_api_key_dict)
        notes[0][ORIGIN] = Origin(
            call_id=key_in(_headers(data) or {}, caller=caller) or _trusted_call_id(data),
            caller=caller,
            alias=alias_of(user_api_key_dict),
            teams=teams_of(user_api_key_dict),
        )
        if len(notes) > 1 and GIVEN in notes[1]:
            # LiteLLM keeps its notes apart, so this goes to the provider, which refuses what it does not know.
            notes[0].setdefault(GIVEN, notes[1].pop(GIVEN))

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: object,
        response: object,
        request_headers: object = None,
        litellm_call_info: object = None,
    ) -> dict[str, str] | None:
        """Return what the response tells about the decision behind it."""
        if response is None:
            return None  # an error: no attempt served
        control = self.routing.ensure()
        if control is None:
            return None
        try:
            return self._headers.of(control, data, response)
        except Exception as error:  # noqa: BLE001 - whatever it is, the response goes out
            self.routing.note_error(error)
            return None

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: object,
        traceback_str: str | None = None,
    ) -> None:
        """Take note that no attempt of a request was answered."""
        control, origin = self.routing.ensure(), origin_of(request_data)
        if control is not None and origin is not None:
            try:
                control.strategy.attempts_over(origin, serving=None, error=original_exception)
            except Exception as error:  # noqa: BLE001 - whatever it is, the client gets LiteLLM's own error
                self.routing.note_error(error)


def _headers(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the headers of the client's request; None where LiteLLM does not tell."""
    request = data.get("proxy_server_request")
    headers = request.get("headers") if isinstance(request, Mapping) else None
    return headers if isinstance(headers, Mapping) else None


def _trusted_call_id(data: Mapping[str, Any]) -> str | None:
    """Return LiteLLM's id of the call; None where the client chose it, so that others may have it, too."""
    headers = _headers(data)
    if headers is None or any(str(name).lower() == _CALL_ID_HEADER for name in headers):
        return None
    call_id = data.get("litellm_call_id")
    return call_id if isinstance(call_id, str) and call_id else None
