"""Reward tokens: a signed permission to reward one call once, to be handed to clients.

A token names a decision with its arm and stage, the time of issue, and the caller. Its holder can read the decision,
arm and stage, but cannot change them without the secret, so credit cannot be moved to another
call. It is URL-safe text of about 140 characters: ``srt1.`` and base64 of

    stage (4 bytes), issued at (8), length of key id (1), length of decision id (1), caller (16), key id, decision id,
    arm, signature (16)

The signature is HMAC-SHA256 over everything before it, ``srt1.`` included, cut to 128 bits. The caller is kept as an
HMAC too, of caller and decision, so that tokens do not tell whose they are, nor which of them are the same person's.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

from stageroute_router.errors import (
    MalformedTokenError,
    SettingsError,
    TokenCallerError,
    TokenExpiredError,
    TokenSignatureError,
)

PREFIX = "srt1."
"""Prefix of every token of this format; no id of a call or a decision has it."""

LEEWAY_S = 60.0
"""Largest difference between the clocks of two hosts, in seconds: more than NTP leaves."""

_FIXED = struct.Struct(">IQBB16s")
_SIGNATURE_BYTES = 16
_ANY_CALLER = bytes(16)
_LONGEST_NAME = 255  # bytes; decision ids and key ids are shorter by far
_LONGEST = 4 * (_FIXED.size + 3 * _LONGEST_NAME + _SIGNATURE_BYTES) // 3 + 4 + len(PREFIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """A secret that tokens are signed with.

    Args:
        key_id: names the key inside tokens, so that two can be valid while they are exchanged. Not secret.
        secret: shared by all processes that make or check tokens, and kept from all others.
    """

    key_id: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenClaims:
    """The content of a valid token.

    Args:
        decision_id: of the decision a reward is for.
        arm: the arm it chose.
        stage: number of the stage it was made in.
        issued_at: when the token was made, whole seconds since the epoch.
    """

    decision_id: str
    arm: str
    stage: int
    issued_at: int


class RewardTokens:
    """Makes and checks the tokens of one router. Any thread may use it.

    Args:
        keys: returns the keys, at least one: the first signs, all of them verify. Asked at the first use.
        lifetime_s: for how many seconds a token is good.
        leeway_s: how far the clocks of two hosts may be apart, in seconds.
        clock: returns seconds since the epoch.
    """

    def __init__(
        self,
        keys: Callable[[], Sequence[TokenKey]],
        *,
        lifetime_s: float,
        leeway_s: float = LEEWAY_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._lifetime_s = lifetime_s
        self._leeway_s = leeway_s
        self._clock = clock

    def mint(self, *, decision_id: str, arm: str, stage: int, caller: str | None = None) -> str:
        """Return a token for one decision.

        Args:
            decision_id: the decision a reward will be for.
            arm: the arm it chose.
            stage: number of its stage.
            caller: the only caller that may use the token (a user id, a session, a tenant); None: any holder may.

        Raises:
            SettingsError: there is no key, or the arm's name is longer than 255 bytes.
        """
        key = self._keys()[0]
        key_id, decision, name = key.key_id.encode(), decision_id.encode(), arm.encode()
        if len(name) > _LONGEST_NAME:
            msg = (
                f"the name of arm {arm[:40]!r}... has {len(name)} bytes, and a reward token holds {_LONGEST_NAME}; "
                "give it a shorter one in model_info.stageroute.arm"
            )
            raise SettingsError(msg)
        fixed = _FIXED.pack(
            stage, int(self._clock()), len(key_id), len(decision), _caller(key, decision, caller)
        )
        payload = fixed + key_id + decision + name
        return PREFIX + _text(payload + _signature(key, payload))

    def read(self, token: str) -> TokenClaims:
        """Return a token's content, after checking its signature and age.

        Raises:
            InvalidTokenError: it was not, or is not; the subclass says which.
            SettingsError: there is no key to check it with.
        """
        return self._checked(token)[1]

    def read_from(self, token: object, *, caller: str | None) -> TokenClaims:
        """Read a token that a client sent, and check that it was made for that caller.

        Args:
            token: what the client sent; anything but a token is refused.
            caller: who sent it, as it was named at :meth:`mint`.

        Raises:
            InvalidTokenError: the token cannot be accepted; the subclass says why.
            SettingsError: there is no key to check it with.
        """
        key, claims, made_for = self._checked(token)
        if not hmac.compare_digest(made_for, _caller(key, claims.decision_id.encode(), caller)):
            msg = "the reward token was not made for this caller"
            raise TokenCallerError(msg)
        return claims

    def _checked(self, token: object) -> tuple[TokenKey, TokenClaims, bytes]:
        signed = _bytes(token)
        payload, signature = signed[:-_SIGNATURE_BYTES], signed[-_SIGNATURE_BYTES:]
        stage, issued_at, key_size, decision_size, made_for = _FIXED.unpack_from(payload)
        key_end = _FIXED.size + key_size
        key_id = payload[_FIXED.size : key_end]
        key = next((key for key in self._keys() if key.key_id.encode() == key_id), None)
        if key is None or not hmac.compare_digest(signature, _signature(key, payload)):
            msg = "the reward token was not signed by this router"
            raise TokenSignatureError(msg)
        # From here on every byte is our own.
        now = self._clock()
        if not now - self._lifetime_s - self._leeway_s <= issued_at <= now + self._leeway_s:
            msg = "the reward token is not valid at this time"
            raise TokenExpiredError(msg)
        claims = TokenClaims(
            decision_id=payload[key_end : key_end + decision_size].decode(),
            arm=payload[key_end + decision_size :].decode(),
            stage=stage,
            issued_at=issued_at,
        )
        return key, claims, made_for


def is_token(text: object) -> TypeGuard[str]:
    """Return whether something claims to be a token; only :class:`RewardTokens` knows whether it is one.

    >>> is_token("srt1.AAAA"), is_token("chatcmpl-1")
    (True, False)
    """
    return isinstance(text, str) and text.startswith(PREFIX)


def _signature(key: TokenKey, payload: bytes) -> bytes:
    return hmac.digest(key.secret, PREFIX.encode() + payload, "sha256")[:_SIGNATURE_BYTES]


def _caller(key: TokenKey, decision: bytes, caller: str | None) -> bytes:
    if caller is None:
        return _ANY_CALLER
    # Decision ids have no zero byte, so that the two cannot run into each other.
    message = b"caller\0" + decision + b"\0" + caller.encode(errors="surrogatepass")
    return hmac.digest(key.secret, message, "sha256")[: len(_ANY_CALLER)]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(token: object) -> bytes:
    if isinstance(token, str) and token.startswith(PREFIX) and len(token) <= _LONGEST:
        text = token[len(PREFIX) :]
        try:
            data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            data = b""
        # Written back, because decoding forgives much, and one permission should have one spelling.
        if len(data) >= _FIXED.size + _SIGNATURE_BYTES and _text(data) == text:
            return data
    msg = "this is not a reward token"
    raise MalformedTokenError(msg)
