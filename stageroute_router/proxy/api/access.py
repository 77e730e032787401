"""Who asks, and what they may: LiteLLM's keys and roles, and nothing besides."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from stageroute_router.proxy.api.problems import Problem
from stageroute_router.proxy.caller import caller_of

logger = logging.getLogger("stageroute_router")

_ADMIN = "proxy_admin"
_VIEWER = "proxy_admin_viewer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """A client that LiteLLM has let in.

    Args:
        caller: the name under which decisions and reward tokens know this key; None where the proxy's authentication
            does not tell callers apart.
        is_admin: may do everything.
        may_look: may see everything.
    """

    caller: str | None
    is_admin: bool
    may_look: bool

    def look(self) -> None:
        """Raise unless the asker may see everything.

        Raises:
            Problem: it may not.
        """
        if not self.may_look:
            msg = "only a proxy admin's key (proxy_admin or proxy_admin_viewer) may look at this"
            raise Problem(403, "not_allowed", msg)

    def administrate(self) -> None:
        """Raise unless the asker may do everything.

        Raises:
            Problem: it may not.
        """
        if not self.is_admin:
            raise Problem(403, "not_allowed", "only a proxy admin's key (proxy_admin) may do this")

    def own_calls_of(self) -> str | None:
        """Return whose calls the asker may act on: a caller's name, or None for all callers.

        Raises:
            Problem: it may act on its own calls only, and has no name to find them by.
        """
        if self.is_admin:
            return None
        if self.caller is None:
            msg = (
                "the proxy's authentication does not tell which calls are yours (it gives neither api_key nor "
                "user_id); use the reward token of the response, or a proxy admin's key"
            )
            raise Problem(403, "not_your_call", msg)
        return self.caller


def asker_of(auth: Any) -> Asker:  # noqa: ANN401 - LiteLLM's UserAPIKeyAuth
    """Return who asks.

    Args:
        auth: what LiteLLM's key check returned.
    """
    role = auth.user_role
    named = str(getattr(role, "value", role))
    is_admin = named == _ADMIN or is_open()
    return Asker(caller=caller_of(auth), is_admin=is_admin, may_look=is_admin or named == _VIEWER)


def is_open() -> bool:
    """Return whether the proxy asks for no key.

    Then it has no roles either: a client that reaches it may spend its money and change its models, so that keeping its
    status from that client would protect nothing.
    """
    from litellm.proxy import proxy_server  # noqa: PLC0415 - seconds, and loaded where a proxy runs

    settings = proxy_server.general_settings or {}
    return (
        proxy_server.master_key is None
        and proxy_server.user_custom_auth is None
        and not any(settings.get(name) for name in settings if name.startswith("enable_") and "auth" in name)
    )


def let_keys_in(prefix: str) -> None:
    """Have LiteLLM check keys for these endpoints, and leave to them what a key may do there.

    Routes that LiteLLM does not know are for proxy admins only. It keeps a list of those that decide for
    themselves, and these do. A key that was limited to certain routes (``allowed_routes``) stays limited.

    Args:
        prefix: what the paths of the endpoints begin with.
    """
    from litellm.proxy._types import LiteLLMRoutes  # noqa: PLC0415 - seconds, and loaded where a proxy runs

    group = getattr(LiteLLMRoutes, "self_managed_routes", None)
    routes = getattr(group, "value", None)
    if not isinstance(routes, list):
        logger.warning("this version of LiteLLM lets only proxy admins reward over HTTP")
        return
    if f"{prefix}/*" not in routes:
        routes.append(f"{prefix}/*")
