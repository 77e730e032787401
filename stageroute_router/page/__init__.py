"""The page that shows in one look whether routing works, and its charts.

The charts need the extra ``charts`` only; the page needs a web framework, which ``litellm[proxy]`` brings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import APIRouter
    from fastapi.routing import APIRoute

    from stageroute_router.reports.reports import Reports


def page_router(
    *,
    reports: Callable[[], Reports],
    may_read: Callable[..., Any],
    route_class: type[APIRoute] | None = None,
) -> APIRouter:
    """Return the page at ``/stageroute/``, ready to be included in a FastAPI application.

    The empty page and its files need no key, everything that tells of a group does.

    Args:
        reports: returns what is shown; called in a thread for each look, so that it may wait and may change its mind.
            An error of ours that it raises, or that the reports raise, is answered with 503 and its text.
        may_read: a FastAPI dependency that raises ``HTTPException`` 401 or 403 for a client that may not look.
        route_class: of the endpoints that it guards; FastAPI's own by default.
    """
    from stageroute_router.page.routes import build  # noqa: PLC0415 - needs a web framework

    return build(reports=reports, may_read=may_read, route_class=route_class)
