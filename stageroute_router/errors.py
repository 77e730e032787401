"""Every error a user can meet. One root; a message says what was wrong, the value and the fix."""

from __future__ import annotations


class StageRouteError(Exception):
    """The root of all errors raised by ``stageroute_router``."""


class SettingsError(StageRouteError, ValueError):
    """A setting cannot be used: the message names the setting, its value and what is accepted."""


class UnknownGroupError(SettingsError):
    """There is no managed group of this name; the message names those there are."""


class UnknownArmError(SettingsError):
    """A group has no arm of this name; the message names those there are."""


class PinError(SettingsError):
    """An arm cannot be pinned: too many would be, or the live ones could not serve all calls. Nothing was stored."""


class InvalidRewardError(StageRouteError, ValueError):
    """A reward is not a finite number in [0, 1]. Rewards are never clipped silently."""


class NotAResponseError(StageRouteError, TypeError):
    """What was given is neither a response of LiteLLM nor an id."""


class UnknownDecisionError(StageRouteError, LookupError):
    """No routed call has this id: it was not routed by this router, or its record has expired."""


class NotYourCallError(StageRouteError, LookupError):
    """The call was made by another caller than the one who rewards it. Nothing was counted."""


class UnmanagedCallError(StageRouteError, LookupError):
    """The call was served by a model group that StageRoute does not manage, so nothing can be credited."""


class InvalidTokenError(StageRouteError, ValueError):
    """A reward token cannot be accepted. The subclass says why: for your log; a client needs to know no more."""


class MalformedTokenError(InvalidTokenError):
    """It is no reward token, or not whole."""


class TokenSignatureError(InvalidTokenError):
    """It was changed, or signed with a key that this router does not have (any more)."""


class TokenExpiredError(InvalidTokenError):
    """It is too old, or made in the future: then the clocks of two hosts are too far apart."""


class TokenCallerError(InvalidTokenError):
    """It was made for another caller."""


class StoreError(StageRouteError):
    """The database cannot be used or did not accept a write; the message says which one and what to do."""


class StoreOutageError(StoreError):
    """The database does not answer now, or is locked: nothing is wrong with it, and trying again is right."""


class StoreUnavailableError(StoreError):
    """The write was not committed before its deadline. It stays queued; repeating it is harmless."""


class StoreOverloadedError(StoreError):
    """The queue of writes is full, so this one was refused. Slow down, or repeat it later."""


class SchemaError(StoreError):
    """The database is not ours, or was written by a newer version; the message has the command to run."""


class TableError(StageRouteError, ValueError):
    """A table of recorded outcomes, or of a benchmark, cannot be used: the message names column, row and value."""


class ProxyError(StageRouteError):
    """A proxy could not be asked, or did not answer as one with StageRoute; the message says which and what to do."""


class ProxyUnavailableError(ProxyError):
    """The proxy does not answer now, or is overloaded or starting: trying again is right."""
