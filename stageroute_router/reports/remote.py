"""Asks a running proxy what an operator may look at: the same values over HTTP as from the router itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import TracebackType
from typing import Any, get_args, get_origin, get_type_hints
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from stageroute_router.errors import PinError, ProxyError, ProxyUnavailableError, SettingsError
from stageroute_router.reports.endpoints import (
    DECISION,
    HEALTH,
    HISTORY,
    PIN,
    PREFIX,
    REDEPLOY,
    STAGES,
    STATUS,
    Endpoint,
    Shape,
)
from stageroute_router.reports.status import GroupStatus, Status
from stageroute_router.reports.values import DecisionReceipt, StageReport
from stageroute_router.store.health import Health
from stageroute_router.store.history import HistoryPoint

DEFAULT_TIMEOUT_S = 10.0
"""How long a proxy may take for an answer, in seconds: longer than an SQLite file may be locked."""

_LONGEST_TOLD = 300
_STARTING = (502, 503, 504)


class ProxyReports:
    """The reports of a running proxy: the same questions as to :class:`~stageroute_router.reports.Reports`, over HTTP.

    Every method raises ``ProxyError`` where the proxy could not be asked, and ``SettingsError`` where it has no such
    group.

    Args:
        url: where the proxy is, such as ``http://localhost:4000``; with its root path if it is mounted at one.
        key: a key that may look at it; None where the proxy asks for none. Sent in the ``Authorization`` header,
            and never part of an error.
        timeout_s: how long an answer may take, in seconds.

    Raises:
        SettingsError: the URL or the key cannot be used.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._url = _checked(url)
        headers = {"accept": "application/json"}
        if key is not None:
            if not (key.isascii() and key.isprintable() and key == key.strip() and key):
                msg = "the key for the proxy cannot be sent: it is empty, or has spaces or unprintable characters"
                raise SettingsError(msg)
            headers["authorization"] = f"Bearer {key}"
        self._has_key = key is not None
        self._timeout_s = timeout_s
        # A redirect is not followed: a key goes only where the operator said.
        self._client = httpx.Client(headers=headers, timeout=timeout_s, follow_redirects=False)

    @property
    def url(self) -> str:
        """Where the proxy is."""
        return self._url

    def status(self) -> Status:
        """Return the status of all groups."""
        return self._ask(STATUS)

    def group_status(self, group: str) -> GroupStatus:
        """Return the status of one group."""
        status = self.status()
        for found in status.groups:
            if found.name == group:
                return found
        known = ", ".join(found.name for found in status.groups) or "none"
        msg = f"the proxy at {self._url} has no managed group {group!r}; there are: {known}"
        raise SettingsError(msg)

    def stages(self, group: str, *, last: int = 50) -> Sequence[StageReport]:
        """Return the ``last`` stages of a group, the oldest first."""
        return self._ask(STAGES, query={"group": group, "last": last})

    def history(self, group: str, *, points: int = 300) -> Sequence[HistoryPoint]:
        """Return at most so many moments of a group, the oldest first, the present one last."""
        return self._ask(HISTORY, query={"group": group, "points": points})

    def receipt(self, key: str) -> DecisionReceipt | None:
        """Return the receipt of a decision, by decision id, response id or call id; None if there is none."""
        answer = self._answer(DECISION, at={"id": key})
        return None if answer.status_code == httpx.codes.NOT_FOUND else self._read(DECISION.shape, answer)

    def health(self) -> Health:
        """Return whether what the proxy learns is stored."""
        return self._ask(HEALTH, bearing=_STARTING)

    def redeploy(self, group: str) -> GroupStatus:
        """Open a maintenance window of a group now, and return the group's status after it."""
        return self._ask(REDEPLOY, at={"group": group})

    def pin(self, group: str, arm: str, *, pinned: bool | None = True) -> GroupStatus:
        """Decide whether an arm is live in every stage, and return the group's status after it.

        Args:
            group: the model group.
            arm: the arm.
            pinned: True to pin it, False to unpin it, None to go by the proxy's configuration again.

        Raises:
            SettingsError: there is no such group or arm.
            PinError: the arm cannot be pinned beside the others.
        """
        answer = self._answer(
            PIN,
            at={"group": group},
            body={"arm": arm, "pinned": pinned},
            bearing=(httpx.codes.CONFLICT,),
        )
        if answer.status_code == httpx.codes.CONFLICT:
            raise PinError(_told(answer))
        return self._known(PIN, answer)

    def close(self) -> None:
        """Close the connections. Closing twice is harmless."""
        self._client.close()

    def __enter__(self) -> ProxyReports:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(
        self,
        endpoint: Endpoint[Shape],
        *,
        at: Mapping[str, str] | None = None,
        query: Mapping[str, str | int] | None = None,
        bearing: Sequence[int] = (),
    ) -> Shape:
        """Return what an endpoint answers."""
        return self._known(endpoint, self._answer(endpoint, at=at, query=query, bearing=bearing))

    def _answer(
        self,
        endpoint: Endpoint[Any],
        *,
        at: Mapping[str, str] | None = None,
        query: Mapping[str, str | int] | None = None,
        body: Mapping[str, str | bool | None] | None = None,
        bearing: Sequence[int] = (),
    ) -> httpx.Response:
        """Return an answer that is good, or a 404 of StageRoute's own, or of a status in ``bearing``."""
        path = endpoint.path.format_map({name: _segment(text) for name, text in (at or {}).items()})
        try:
            answer = self._client.request(
                endpoint.method, f"{self._url}{PREFIX}{path}", params=query, json=body
            )
        except httpx.HTTPError as error:
            raise self._unanswered(error) from error
        except httpx.InvalidURL as error:
            msg = f"the proxy URL {self._url!r} cannot be used: {error}"
            raise SettingsError(msg) from error
        if answer.is_success or answer.status_code in bearing:
            return answer
        if answer.status_code == httpx.codes.NOT_FOUND and _is_ours(answer):
            return answer
        raise self._refused(answer)

    def _known(self, endpoint: Endpoint[Shape], answer: httpx.Response) -> Shape:
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise SettingsError(_told(answer))
        return self._read(endpoint.shape, answer)

    def _read(self, shape: type[Shape], answer: httpx.Response) -> Shape:
        try:
            found = answer.json()
        except ValueError as error:
            raise self._foreign(answer, "its answer is not JSON") from error
        try:
            return TypeAdapter(shape).validate_python(_with_infinities(shape, found), strict=False)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the answer"
            raise self._foreign(answer, f"{where}: {first['msg']}") from error

    def _foreign(self, answer: httpx.Response, why: str) -> ProxyError:
        if answer.status_code in _STARTING:
            return self._refused(answer)
        return ProxyError(
            f"what answers at {self._url} is no proxy with StageRoute that this version knows ({why}); check the "
            "URL, and that the proxy and this command have the same version of stageroute-router"
        )

    def _unanswered(self, error: httpx.HTTPError) -> ProxyError:
        at = f"the proxy at {self._url}"
        if isinstance(error, httpx.ConnectTimeout):
            return ProxyUnavailableError(
                f"{at} accepted no connection within {self._timeout_s:g} s; check the address, and what is between"
            )
        if isinstance(error, httpx.TimeoutException):
            return ProxyUnavailableError(
                f"{at} did not answer within {self._timeout_s:g} s; it may be overloaded: try a longer --timeout"
            )
        if isinstance(error, httpx.ConnectError):
            text = str(error)
            if "CERTIFICATE" in text.upper():
                return ProxyError(
                    f"the certificate of {at} cannot be trusted: {text}; for a private authority, set SSL_CERT_FILE "
                    "to its certificate"
                )
            if "ssl" in text.lower():
                return ProxyError(f"{at} does not speak TLS: use http:// or the port that does")
            return ProxyUnavailableError(
                f"nothing answers at {self._url} ({text}); is the proxy running, and is this its port?"
            )
        return ProxyUnavailableError(f"the connection to {at} broke ({type(error).__name__}); try again")

    def _refused(self, answer: httpx.Response) -> ProxyError:
        """Return the error for a status; what LiteLLM says of keys is not repeated, for it repeats parts of them."""
        at, status, told = f"the proxy at {self._url}", answer.status_code, _told(answer)
        reason = f": {told}" if told else ""
        if status == httpx.codes.UNAUTHORIZED:
            msg = (
                f"{at} does not accept this key (401); check the variable it came from"
                if self._has_key
                else f"{at} asks for a key (401); put one into the environment variable STAGEROUTE_KEY, or name "
                "another with --key-env"
            )
        elif status == httpx.codes.FORBIDDEN:
            msg = f"{at} does not let this key do that (403); use a proxy administrator's key"
        elif status in (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED):
            msg = (
                f"{at} answers, but has no StageRoute at {self._url}{PREFIX} ({status}): the plugin is not loaded "
                "or is older than this command, or the proxy has a root path, which belongs into the URL"
            )
        elif answer.is_redirect:
            to = answer.headers.get("location", "elsewhere")
            msg = f"{at} points to {to!r} ({status}); if that is right, give that URL"
        elif status in _STARTING:
            return ProxyUnavailableError(f"{at} is not ready ({status}{reason}); try again in a moment")
        elif status == httpx.codes.TOO_MANY_REQUESTS:
            return ProxyUnavailableError(f"{at} lets this key do no more now (429{reason}); try again later")
        elif answer.is_server_error:
            msg = f"{at} failed ({status}{reason}); its log says why"
        else:
            msg = f"{at} refused the request ({status}{reason})"
        return ProxyError(msg)


def _checked(url: str) -> str:
    """Return a proxy's URL without what would be repeated; see :class:`ProxyReports`."""
    try:
        parsed = httpx.URL(url)
        scheme, host = parsed.scheme, parsed.host
    except (httpx.InvalidURL, ValueError) as error:
        msg = f"the proxy URL cannot be used: {error}"
        raise SettingsError(msg) from error
    if parsed.userinfo or parsed.query or parsed.fragment:
        # Not repeated: it is on the screen and in the shell's history already, and need not be in a log.
        msg = (
            "the proxy URL has a user, password, query or fragment, where all users of this machine can read it; "
            "give only scheme, host and path, and put the key into the environment variable STAGEROUTE_KEY"
        )
        raise SettingsError(msg)
    if scheme not in {"http", "https"} or not host:
        msg = f"the proxy URL {url!r} cannot be used: give one such as http://localhost:4000"
        raise SettingsError(msg)
    return str(parsed).rstrip("/").removesuffix(PREFIX)


def _segment(text: str) -> str:
    """Return text as one part of a path.

    Raises:
        SettingsError: a reverse proxy would take it for a way up.
    """
    if not text or {".", ".."} & set(text.split("/")):
        msg = f"{text!r} cannot be asked for by a URL; look into the database instead, with --database"
        raise SettingsError(msg)
    return quote(text, safe="")


def _is_ours(answer: httpx.Response) -> bool:
    """Return whether a 404 speaks of a group or decision, not of a route that the proxy does not have.

    StageRoute's errors have a word for a code, where LiteLLM's have the status again, or nothing.
    """
    try:
        code = answer.json()["error"]["code"]
    except (ValueError, LookupError, TypeError):
        return False
    return isinstance(code, str) and not code.isdigit()


def _told(answer: httpx.Response) -> str:
    """Return what an answer says in words, without what would steer a terminal; "" if it says nothing."""
    try:
        found = answer.json()
    except ValueError:
        return ""
    for key in ("error", "detail", "message"):
        while isinstance(found, Mapping) and key in found:
            found = found[key]
    if not isinstance(found, str):
        return ""
    return "".join(char for char in found if char.isprintable())[:_LONGEST_TOLD]


def _with_infinities(shape: Any, found: object) -> object:  # noqa: ANN401 - a type, or a generic alias
    """Return JSON with infinity where a number that must be there is null: how infinity travels."""
    if shape is float and found is None:
        return math.inf
    if is_dataclass(shape) and isinstance(found, Mapping):
        hints = get_type_hints(shape)
        present = [field.name for field in fields(shape) if field.name in found]
        return {name: _with_infinities(hints[name], found[name]) for name in present}
    if get_origin(shape) is tuple and isinstance(found, list):
        (item, *_) = get_args(shape)
        return [_with_infinities(item, one) for one in found]
    return found
