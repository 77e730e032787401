"""Who made a call through the proxy: a short name that tells callers apart and nothing else.

It binds reward tokens to their callers and is stored with decisions, so it is neither a key nor LiteLLM's own hash
of one: those are in LiteLLM's database and logs, beside names and spend.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

_DIGITS = 16
_KEY_PREFIX = "sk-"


class Authenticated(Protocol):
    """What is read of LiteLLM's ``UserAPIKeyAuth``."""

    @property
    def api_key(self) -> str | None:
        """LiteLLM's hash of the key, or what an authentication of the operator's own puts there."""

    @property
    def user_id(self) -> str | None:
        """Whose call it is, for those who come without a key (JWT, single sign-on)."""


def alias_of(auth: object) -> str | None:
    """Return what a caller's key is called; None if it has no name, or one that looks like a key itself.

    >>> from types import SimpleNamespace
    >>> alias_of(SimpleNamespace(key_alias="billing")), alias_of(SimpleNamespace(key_alias="sk-0a1b"))
    ('billing', None)
    """
    alias = getattr(auth, "key_alias", None)
    return alias if isinstance(alias, str) and alias and not alias.startswith(_KEY_PREFIX) else None


def teams_of(auth: object) -> tuple[str, ...]:
    """Return the names of a caller's team, the best one first.

    >>> from types import SimpleNamespace
    >>> teams_of(SimpleNamespace(team_alias=None, team_id="t1"))
    ('t1',)
    """
    names = (getattr(auth, name, None) for name in ("team_alias", "team_id"))
    return tuple(name for name in names if isinstance(name, str) and name)


def caller_of(auth: Authenticated) -> str | None:
    """Return a caller's name: 16 hexadecimal digits; None where the proxy knows nothing of its callers.

    The same key gives the same name in every worker and after every restart.

    Args:
        auth: what LiteLLM's ``user_api_key_auth`` returned for the request.

    >>> from types import SimpleNamespace
    >>> caller_of(SimpleNamespace(api_key="0a1b", user_id=None)) == caller_of(
    ...     SimpleNamespace(api_key="0a1b", user_id="anna")
    ... )
    True
    >>> caller_of(SimpleNamespace(api_key=None, user_id=None)) is None
    True
    """
    for kind, value in (("key", auth.api_key), ("user", auth.user_id)):
        if value:
            named = f"stageroute_router caller, {kind}: {value}"
            return hashlib.sha256(named.encode()).hexdigest()[:_DIGITS]
    return None
