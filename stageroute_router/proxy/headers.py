"""What each response tells its client about the decision behind it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from stageroute_router.errors import SettingsError, StageRouteError
from stageroute_router.hook.calls.request import METADATA_KEYS, Origin, origin_of
from stageroute_router.hook.calls.response import field_of
from stageroute_router.router.control import Control

logger = logging.getLogger("stageroute_router")

PREFIX = "x-stageroute-"

_PRINTABLE = "!#$&'()*+,/:;=?@[]^`{|}<>\"\\~-._"
_NO_TOKEN_RETRY_S = 60.0


class ResponseHeaders:
    """Makes the headers of one response after the other."""

    def __init__(self) -> None:
        self._no_token_until = 0.0
        self._said: set[str] = set()

    def of(self, control: Control, data: Mapping[str, Any], response: object) -> dict[str, str]:
        """Return the headers of a response; none where StageRoute did not choose who served it.

        Args:
            control: the handle on the routing.
            data: LiteLLM's data of the request.
            response: what LiteLLM answers with: a response, or a stream that has not begun.
        """
        origin = origin_of(data)
        hidden = field_of(response, "_hidden_params")
        if origin is None or field_of(hidden, "cache_hit") is True:
            return {}
        served_by = field_of(hidden, "model_id") or _last_deployment(data)
        made = control.strategy.decision_made(origin, served_by=served_by)
        if not isinstance(response, list):  # several answers at once: LiteLLM's batches
            control.strategy.fail_other_attempts(origin, serving=None if made is None else made.decision_id)
        if made is None:
            return {}
        headers = {
            "decision-id": made.decision_id,
            "arm": quote(made.arm, safe=_PRINTABLE),
            "probability": f"{made.probability:.6g}",
            "stage": str(made.stage),
        }
        token = self._token(control, origin)
        if token is not None:
            headers["token"] = token
        return {f"{PREFIX}{name}": value for name, value in headers.items()}

    def _token(self, control: Control, origin: Origin) -> str | None:
        if time.monotonic() < self._no_token_until:
            return None
        try:
            return control.reward_token(str(origin), caller=origin.caller)
        except SettingsError as error:
            self._no_token_until = time.monotonic() + _NO_TOKEN_RETRY_S
            if str(error) not in self._said:
                self._said.add(str(error))
                logger.warning("responses carry no reward token: %s", error)
        except StageRouteError:
            pass  # a call that LiteLLM chose for: there is nothing to reward
        return None


def _last_deployment(data: Mapping[str, Any]) -> str | None:
    """Return the id of the deployment that LiteLLM noted last for a request."""
    for key in METADATA_KEYS:
        noted = field_of(field_of(data.get(key), "model_info"), "id")
        if isinstance(noted, str) and noted:
            return noted
    return None
