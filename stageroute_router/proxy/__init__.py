"""StageRoute inside LiteLLM's proxy: one line in its configuration, and every client is routed.

``litellm_settings.callbacks: ["stageroute_router.proxy.plugin"]`` makes the proxy read ``plugin`` here, each time it
loads its configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stageroute_router.proxy.callbacks import ProxyCallbacks

    plugin: ProxyCallbacks

__all__ = ["plugin"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the module has
    if name == "plugin":
        from stageroute_router.proxy.start import loaded  # noqa: PLC0415 - the parts here do without the proxy

        return loaded()
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
