"""The simulated provider as a command: ``python -m stageroute_router.testing.provider``."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from stageroute_router.testing.provider.app import ProviderApp
from stageroute_router.testing.provider.hosts import LOOPBACK, serve
from stageroute_router.testing.provider.provider import check_models
from stageroute_router.testing.simulated_model import SimulatedModel


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted; print the URL once connections are accepted."""
    parser = argparse.ArgumentParser(
        prog="python -m stageroute_router.testing.provider",
        description="An OpenAI-compatible server on loopback that answers from a table of recorded outcomes.",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--table", type=Path, help="recorded outcomes (.npz, .csv, .parquet); default: RouterBench"
    )
    source.add_argument(
        "--models", help="JSON with models, prompts and seed; - reads one line of standard input"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all draws (default 0)")
    parser.add_argument("--port", type=int, default=0, help="TCP port (default: a free one)")
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        help=f"address to serve at (default {LOOPBACK}); 0.0.0.0 is for a container, whose network is its own",
    )
    options = parser.parse_args(arguments)
    try:
        app = _app_from(options)
        asyncio.run(
            _serve_command(app, host=options.host, port=options.port, ends_with_stdin=options.models == "-")
        )
    except (OSError, ValueError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _app_from(options: argparse.Namespace) -> ProviderApp:
    if options.models is not None:
        text = (
            sys.stdin.readline()
            if options.models == "-"
            else Path(options.models).read_text(encoding="utf-8")
        )
        order = json.loads(text)
        models = [SimulatedModel.from_json(values) for values in order["models"]]
        check_models(models)
        return ProviderApp(models, seed=order.get("seed", options.seed), prompts=order.get("prompts", ()))
    if options.table is not None:
        from stageroute_router.tables.load import load_table  # noqa: PLC0415 - only this option needs it
        from stageroute_router.testing.provider.table import simulated_models  # noqa: PLC0415 - as above

        table = load_table(options.table)
        return ProviderApp(simulated_models(table), seed=options.seed, prompts=table.prompts or ())
    from stageroute_router.testing.provider.routerbench import routerbench_models  # noqa: PLC0415 - as above

    return ProviderApp(routerbench_models(), seed=options.seed)


async def _serve_command(app: ProviderApp, *, host: str, port: int, ends_with_stdin: bool) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    if ends_with_stdin:
        await _watch_stdin(ended)

    def announce(bound_port: int) -> None:
        sys.stdout.write(f"http://{host}:{bound_port}\n")
        sys.stdout.flush()

    await serve(app, host=host, port=port, on_start=announce, until=ended)


async def _watch_stdin(ended: asyncio.Event) -> None:
    class Watcher(asyncio.Protocol):
        def connection_lost(self, error: Exception | None) -> None:
            ended.set()

    await asyncio.get_running_loop().connect_read_pipe(Watcher, sys.stdin)


if __name__ == "__main__":
    main()
