"""Measure the default estimator beside its peers on recorded tables.

    python -m benchmarks.quality TABLE.npz [TABLE ...] [--seeds 5] [--calls 20000] [--fractions 0.1 0.3 1.0]
        [--only POLICY ...] [--variants base late partial ...] [--horizons 2000 5000 ...] [--out build/quality]

Writes report.md, report.json and pictures into the folder and prints a summary. Tables: .npz, .csv or .parquet as
described in stageroute_router/tables/load.py. Peers that are packages: pip install -r requirements/peers.txt; those
that are missing are skipped, and named. Everything runs in this process, one run after the other.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.quality import catalogue, variants
from benchmarks.quality.report import Report
from benchmarks.quality.study import Cell, Search, measure, places
from benchmarks.quality.variants import Variant
from stageroute_router.errors import StageRouteError
from stageroute_router.tables.load import load_table

DEFAULT_OUT = Path("build/quality")
HORIZONS = (2_000, 5_000, 10_000, 20_000, 50_000, 100_000)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write, print; return the exit status."""
    arguments = _arguments(argv)
    console, progress = Console(), Console(stderr=True)
    try:
        tables = [(path.stem, load_table(path)) for path in arguments.tables]
    except StageRouteError as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        return 2
    horizons = tuple(
        Variant(name=f"T={calls}", about=f"{calls:,} calls", calls=calls) for calls in arguments.horizons
    )
    chosen = tuple(variants.BY_NAME[name] for name in arguments.variants)
    entries = [catalogue.BY_NAME[name] for name in arguments.only]
    search = Search(seeds=arguments.search_seeds, calls=arguments.search_calls)
    missing: dict[str, str] = {}
    cells: list[Cell] = []
    words = sys.argv[1:] if argv is None else argv
    with progress.status("") as status:
        for place in places(
            tables, variants=(*chosen, *horizons), fractions=arguments.fractions, calls=arguments.calls
        ):
            cells += measure(
                place,
                entries,
                seeds=arguments.seeds,
                search=search,
                missing=missing,
                tell=status.update,
            )
            report = Report(
                command=shlex.join(["python", "-m", "benchmarks.quality", *map(str, words)]),
                tables=tuple((name, table.queries, len(table.models)) for name, table in tables),
                variants=(*chosen, *horizons),
                horizons=tuple(variant.name for variant in horizons),
                seeds=arguments.seeds,
                calls=arguments.calls,
                search=search,
                cells=tuple(cells),
                missing=missing,
            )
            # A measurement may take hours: what is done is on disk, pictures excepted.
            report.save_numbers(arguments.out)
    if not cells:
        console.print("Nothing was measured.", *missing.values(), sep="\n")
        return 1
    written = report.save(arguments.out)
    report.show(console)
    console.print(f"Written: {', '.join(str(path) for path in written)}", highlight=False)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tables", nargs="+", type=Path, metavar="TABLE")
    parser.add_argument("--seeds", type=_positive, default=5, help="streams per cell (default 5)")
    parser.add_argument("--calls", type=_positive, default=20_000, help="calls per stream (default 20,000)")
    parser.add_argument(
        "--fractions",
        type=float,
        nargs="+",
        default=[0.1, 0.3, 1.0],
        help="budgets, of the best model's cost",
    )
    names = [entry.name for entry in catalogue.ENTRIES]
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="POLICY", help=", ".join(names)
    )
    known = [variant.name for variant in variants.VARIANTS]
    about = "; ".join(f"{variant.name}: {variant.about}" for variant in variants.VARIANTS)
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=known,
        default=["base"],
        metavar="VARIANT",
        help=f"{about} (default base)",
    )
    parser.add_argument(
        "--horizons",
        type=_positive,
        nargs="*",
        default=[],
        help=f"numbers of calls to measure the slope of regret over, for example {' '.join(map(str, HORIZONS))}",
    )
    parser.add_argument(
        "--search-seeds", type=_positive, default=2, help="streams to try a peer's settings on (default 2)"
    )
    parser.add_argument(
        "--search-calls", type=_positive, default=10_000, help="calls of these, at most (default 10,000)"
    )
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help=f"folder (default {DEFAULT_OUT})")
    arguments = parser.parse_args(argv)
    if min(arguments.fractions) <= 0:
        parser.error("--fractions must be above 0")
    return arguments


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        message = f"{text} is not at least 1"
        raise argparse.ArgumentTypeError(message)
    return number


if __name__ == "__main__":
    sys.exit(main())
