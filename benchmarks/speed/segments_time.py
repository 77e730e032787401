"""What a call pays for its automatic segment: the text looked for in the request, its numbers, the nearest centroid.

    python -m benchmarks.speed.segments_time [--calls 20000] [--segments 32] [--prompts FILE.jsonl.xz ...] [--json FILE]

Of each set of prompts the first 500 are fitted on, as in a process, and then every call is timed by itself, prompts in
random order: medians and 99th percentiles in microseconds. The machine's other work shows in the percentiles, so the
same calls are timed in several passes, and the median pass is shown with the best one.

- ``generated``: questions, code, lists of options and long documents made here, of log-normal lengths with a median of
  400 characters; one in ten is not ASCII.
- one set for each FILE: a JSON object on each line, with the text under "prompt".
"""

from __future__ import annotations

import argparse
import json
import lzma
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from stageroute_router.core.segments.features import asked_text, byte_features
from stageroute_router.groups.segmenter import Segmenting

PASSES = 5
FIT_CALLS = 500

_PROSE = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "for",
    "it",
    "as",
    "with",
    "was",
    "on",
    "be",
    "by",
    "at",
    "from",
    "or",
    "an",
    "are",
    "this",
    "which",
    "you",
    "have",
    "not",
    "but",
    "they",
]
_CODE = [
    "def",
    "return",
    "if",
    "else",
    "for",
    "in",
    "range(n):",
    "x",
    "=",
    "[0]",
    "*",
    "len(y)",
    "+",
    "{k:",
    "v}",
    "while",
    "not",
    "self._value[i]",
    "!=",
    "None:",
    "print(a,",
    "b)",
]
_OTHER = [
    "что",
    "это",
    "такое",
    "как",
    "работает",
    "тепловой",
    "насос",
    "汉字",
    "今天天气怎么样",
    "größe",
    "straße",
    "über",
    "¿dónde",
    "está?",
    "العربية",
    "😀",
]


def generated(calls: int, *, seed: int) -> list[str]:
    """Return generated prompts of several kinds."""
    rng = np.random.default_rng(seed)
    prompts = []
    for length in rng.lognormal(np.log(400), 1.2, calls).clip(5, 100_000).astype(int):
        kind = rng.random()
        words = _OTHER if kind < 0.1 else _CODE if kind < 0.35 else _PROSE
        joined = "\n    " if words is _CODE and rng.random() < 0.5 else " "
        text = joined.join(rng.choice(words, size=length // 5 + 1))[:length]
        if kind > 0.8:
            text += "".join(f"\n{letter}) {rng.choice(_PROSE)}" for letter in "ABCD")
        elif kind > 0.6:
            text += "?"
        prompts.append(text)
    return prompts


def read(path: Path) -> list[str]:
    """Return the prompts of a file; lines without one are left out."""
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        found = [json.loads(line).get("prompt") for line in lines]
    prompts = [prompt for prompt in found if isinstance(prompt, str) and prompt]
    if len(prompts) < FIT_CALLS:
        msg = f'{path}: {len(prompts)} prompts, and {FIT_CALLS} are needed; each line must be an object with a "prompt"'
        raise SystemExit(msg)
    return prompts


def timed(step: Callable[[int], object], calls: int) -> tuple[float, float]:
    """Return median and 99th percentile in microseconds of a step that is given the call's number."""
    taken = np.empty(calls)
    for call in range(calls):
        started = time.perf_counter()
        step(call)
        taken[call] = time.perf_counter() - started
    p50, p99 = np.percentile(taken, [50, 99]) * 1e6
    return float(p50), float(p99)


def measure(
    prompts: list[str], *, calls: int, segments: int
) -> tuple[int, dict[str, list[tuple[float, float]]]]:
    """Return how many segments were found, and by step median and 99th percentile of each pass."""
    rng = np.random.default_rng(1)
    order = rng.permutation(len(prompts))
    segmenting = Segmenting(segments=segments, calls=FIT_CALLS)
    for index in order[:FIT_CALLS]:
        segmenting.segment(prompts[index])
    found = segmenting.fit()
    if found is None:
        raise AssertionError
    segmenting.adopt(found)
    asked = [prompts[index] for index in rng.choice(order, size=calls)]
    requests = [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}] for text in asked
    ]
    vectors = [byte_features(text) for text in asked]
    steps: dict[str, Callable[[int], object]] = {
        "text of the request": lambda call: asked_text(messages=requests[call]),
        "numbers": lambda call: byte_features(asked[call]),
        "nearest centroid": lambda call: found.segment_of(vectors[call]),
        "numbers and segment": lambda call: segmenting.segment(asked[call]),
        "all of it": lambda call: segmenting.segment(asked_text(messages=requests[call])),
    }
    passes: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(PASSES):
        for name, step in steps.items():
            passes[name].append(timed(step, calls))
    return len(found.segments), passes


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--segments", type=int, default=32)
    parser.add_argument("--prompts", type=Path, nargs="+", default=[])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    sets = {"generated": generated(5_000, seed=0)} | {path.name: read(path) for path in arguments.prompts}
    table = Table("prompts", "segments", "step", "p50 µs", "best", "p99 µs", "best")
    results = []
    for name, prompts in sets.items():
        segments, passes = measure(prompts, calls=arguments.calls, segments=arguments.segments)
        for step, pairs in passes.items():
            p50, p99 = np.median(pairs, axis=0)
            best50, best99 = np.min(pairs, axis=0)
            row = {"p50_us": p50, "best_p50_us": best50, "p99_us": p99, "best_p99_us": best99}
            results.append({"prompts": name, "segments": segments, "step": step, **row})
            table.add_row(name, str(segments), step, *(f"{value:.1f}" for value in row.values()))
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
