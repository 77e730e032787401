"""What the parts that are mounted on LiteLLM's proxy (endpoints, page, metrics) are given to work with."""

from __future__ import annotations

from typing import Protocol

from stageroute_router.errors import StageRouteError
from stageroute_router.router.control import Control


class ProxyNotReadyError(StageRouteError):
    """LiteLLM's proxy has no router yet, so nothing is routed: answer 503, and ask again in a moment."""


class ProxyRouting(Protocol):
    """StageRoute's routing of the proxy that this process runs. Every method may be called from any thread.

    There is one object for the life of the process, made before the proxy has a router.
    """

    def control(self) -> Control:
        """Return the handle on the routing of the proxy's present router, attaching to it first if needed.

        A configuration reload may give the proxy another router, and then there is another handle: ask for it for
        each request, and keep it no longer than that.

        Raises:
            ProxyNotReadyError: the proxy has no router yet.
        """
        ...
