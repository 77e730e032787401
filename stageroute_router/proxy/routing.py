"""Keep the proxy's present router routed: when it appears, when it is replaced, when settings change."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from stageroute_router.errors import StageRouteError
from stageroute_router.proxy.interfaces import ProxyNotReadyError
from stageroute_router.router.attach import prepare, take_over
from stageroute_router.router.control import Control
from stageroute_router.settings.parsing import Settings

logger = logging.getLogger("stageroute_router")

_END_DEADLINE_S = 10.0
_LAST_REPORTS_S = 2.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refused:
    """A router that cannot be routed, and why."""

    router: object
    reason: Exception


class AttachedRouting:
    """The routing of the proxy that this process runs; there is one database connection, and one runtime, at a time.

    Args:
        settings: those to start with.
        current_router: returns the proxy's router, None while it has none.

    Raises:
        SettingsError: a setting cannot be used.
        StoreError: the database cannot be used.
    """

    def __init__(self, settings: Settings, *, current_router: Callable[[], object]) -> None:
        self._settings = settings
        self._current_router = current_router
        self._prepared = prepare(settings)
        self._changing = threading.RLock()
        self._router: object = None
        self._control: Control | None = None
        self._refused: _Refused | None = None
        self._closed = False

    def control(self) -> Control:
        """Return the handle on the routing of the proxy's present router, attaching to it first if needed.

        Raises:
            ProxyNotReadyError: the proxy has no router yet, or one that cannot be routed.
        """
        router = self._current_router()
        control = self._control
        if control is None or router is not self._router:
            control = self._attach(router)
        return control

    def ensure(self) -> Control | None:
        """Do the same for a call that goes on in any case, and see that LiteLLM still asks; never raises."""
        try:
            control = self.control()
            control.strategy.ensure_attached()
        except ProxyNotReadyError:
            return None
        except Exception as error:  # noqa: BLE001 - whatever it is, the user's call goes on
            self.note_error(error)
            return None
        return control

    def note_error(self, error: BaseException) -> None:
        """Count an error of ours that was kept from the user's call, and log it now and then."""
        self._prepared.routing.internal_error(error)

    def reconfigure(self, settings: Settings) -> None:
        """Go on with other settings, if they are others: the database is closed, and opened again.

        Calls that come in between are left to LiteLLM's own choice, which is a moment; calls under way are taken along.
        Settings that cannot be used change nothing.

        Raises:
            SettingsError: a setting cannot be used; the former ones stay.
            StoreError: the database cannot be used any more with the new settings: routing goes on with the former.
        """
        with self._changing:
            if settings == self._settings:
                return
            self._prepared.routing.close(_END_DEADLINE_S)
            try:
                self._prepared = prepare(settings)
                self._settings = settings
            except StageRouteError:
                self._prepared = prepare(self._settings)
                raise
            finally:
                # Attached anew at the next call. The old strategy's runtime is closed: it must not choose any more.
                self._router = None
                if self._control is not None:
                    self._control.strategy.close()

    def close(self) -> None:
        """Commit what is pending and close the database. Calls are left to LiteLLM from then on."""
        with self._changing:
            self._closed = True
            if self._control is not None:
                self._control.strategy.close()
            self._prepared.routing.close(_END_DEADLINE_S)

    async def aclose(self) -> None:
        """Wait for a moment until LiteLLM has reported on the last calls, and close."""
        control = self._control
        give_up = time.monotonic() + _LAST_REPORTS_S
        while control is not None and control.strategy.open_calls() and time.monotonic() < give_up:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)  # LiteLLM reports in the background, and does not signal when it has
        await asyncio.to_thread(self.close)

    def _attach(self, router: object) -> Control:
        with self._changing:
            if router is None or self._closed:
                msg = "LiteLLM's proxy has no router" + (" any more" if self._closed else " yet; ask again")
                raise ProxyNotReadyError(msg)
            if self._control is not None and router is self._router:
                return self._control  # another thread was faster
            if self._refused is not None and self._refused.router is router:
                raise ProxyNotReadyError(f"the proxy's router cannot be routed: {self._refused.reason}")
            former = self._control
            try:
                control = take_over(
                    router,
                    self._prepared,
                    predecessor=None if former is None else former.strategy,
                    strict=False,
                )
            except Exception as error:
                self._refused = _Refused(router=router, reason=error)
                logger.error("calls are left to LiteLLM's own choice: %s", error)
                raise ProxyNotReadyError(f"the proxy's router cannot be routed: {error}") from error
            if former is not None:
                logger.info(
                    "the proxy has another router, or other settings; its calls are routed by StageRoute, too"
                )
            self._router, self._control = router, control
            return control
