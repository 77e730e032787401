"""Thumbs given in Open WebUI as rewards, where Open WebUI's calls go through the proxy.

The one-line change is the headers of Open WebUI's connection to the proxy,
``{"x-stageroute-reward-key": "{{MESSAGE_ID}}", "x-stageroute-task": "{{TASK}}"}``. Then, once in a while::

    import_ratings("http://webui:8080", webui_key, proxy_url="http://proxy:4000", proxy_key=proxy_key)

Importing again changes nothing but what has changed there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import httpx

from stageroute_router.errors import ProxyError
from stageroute_router.reports.endpoints import PREFIX

_EXPORT = "/api/v1/evaluations/feedbacks/all/export"
_REWARDS = {"1": 1.0, "-1": 0.0}
_BATCH = 500
_TIMEOUT_S = 60.0
_WEBUI, _PROXY = "Open WebUI", "the proxy"
_KEY_NEEDED = {
    _WEBUI: "its export needs an admin's API key, and API keys allowed in its settings",
    _PROXY: "give the key that Open WebUI's connection to it has",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did.

    Args:
        taken: ratings that are rewards now, those that were before among them.
        unknown: ratings of messages that the proxy knows no call of.
        unusable: entries of the export that are no thumb of a message, whenever they were made.
        newest: the latest ``updated_at`` of a thumb, in seconds since 1970, for the next ``since``; None without any.
    """

    taken: int
    unknown: int
    unusable: int
    newest: float | None


def import_ratings(
    webui_url: str,
    webui_key: str,
    *,
    proxy_url: str,
    proxy_key: str,
    since: float | None = None,
    source: str | None = "open_webui",
) -> Imported:
    """Post all ratings of an Open WebUI to the proxy: thumbs up as 1, down as 0. Waits until they are durable.

    Args:
        webui_url: where Open WebUI is.
        webui_key: an API key of one of its admins.
        proxy_url: where the proxy is.
        proxy_key: the very key that Open WebUI's connection has, because message ids are bound to it.
        since: only ratings changed at this time or later, in seconds since 1970: the last import's ``newest``;
            all by default, and for None.
        source: under which name they are kept. Any name but the default of the proxy needs a proxy admin's key: give
            None where Open WebUI has none.

    Returns:
        What became of the ratings.

    Raises:
        ProxyError: one of the two cannot be reached, or refuses; the message says which.

    >>> done = import_ratings(webui_url, webui_key, proxy_url=proxy_url, proxy_key=proxy_key)
    >>> done.taken
    3
    """
    with httpx.Client(timeout=_TIMEOUT_S) as client:
        found = _asked(client, "GET", webui_url.rstrip("/") + _EXPORT, key=webui_key, who=_WEBUI)
        if not isinstance(found, list):
            msg = f"Open WebUI at {webui_url} exported no list of ratings; check the URL and its version"
            raise ProxyError(msg)
        thumbs = sorted(filter(None, map(_thumb, found)), key=lambda thumb: thumb.changed)
        fresh = [thumb for thumb in thumbs if since is None or thumb.changed >= since]
        named = {} if source is None else {"source": source}
        # Of a message that was rated more than once the latest rating counts.
        rewards = {
            thumb.message: {"id": f"key:{thumb.message}", "reward": thumb.reward, **named} for thumb in fresh
        }
        bodies = list(rewards.values())
        codes: Counter[int] = Counter()
        for start in range(0, len(bodies), _BATCH):
            url, batch = f"{proxy_url.rstrip('/')}{PREFIX}/reward", bodies[start : start + _BATCH]
            for result in _asked(client, "POST", url, key=proxy_key, who=_PROXY, body=batch):
                codes[result["code"]] += 1
                if result["code"] not in {200, 202, 404}:
                    msg = f"the proxy refused a rating ({result['code']}): {result['error']['message']}"
                    raise ProxyError(msg)
    return Imported(
        taken=codes[200] + codes[202],
        unknown=codes[404],
        unusable=len(found) - len(thumbs),
        newest=max((thumb.changed for thumb in fresh), default=None),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Thumb:
    """A rating of a message, as a reward."""

    message: str
    reward: float
    changed: float


def _thumb(entry: object) -> _Thumb | None:
    """Return what an exported entry says; None where it is no thumb of a message."""
    try:
        data, meta, changed = entry["data"], entry["meta"], float(entry["updated_at"])  # type: ignore[index]
        message, reward = meta["message_id"], _REWARDS[str(data["rating"])]
    except (KeyError, TypeError, ValueError):
        return None
    return _Thumb(message=message, reward=reward, changed=changed) if isinstance(message, str) else None


def _asked(client: httpx.Client, method: str, url: str, *, key: str, who: str, body: object = None) -> Any:  # noqa: ANN401
    try:
        answer = client.request(method, url, headers={"Authorization": f"Bearer {key}"}, json=body)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        msg = f"{who} cannot be reached at {url} ({type(error).__name__}); check the URL"
        raise ProxyError(msg) from error
    if answer.status_code in {401, 403}:
        msg = f"{who} does not accept this key ({answer.status_code}); {_KEY_NEEDED[who]}"
        raise ProxyError(msg)
    if not answer.is_success:
        msg = f"{who} refused the request ({answer.status_code}) at {url}"
        raise ProxyError(msg)
    try:
        return answer.json()
    except ValueError as error:
        msg = f"what answers at {url} is not {who}: its answer is not JSON"
        raise ProxyError(msg) from error
