"""Read a table of recorded outcomes from NumPy's archive."""

from __future__ import annotations

import json
import lzma
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from stageroute_router.errors import TableError
from stageroute_router.tables.outcomes import Floats, OutcomeTable

_REQUIRED = ("reward", "cost", "models")
_OPTIONAL = ("task", "task_names", "release", "price_in", "price_out", "tok_in", "tok_out")
_TOKENS_PER_PRICE = 1e6
_DAMAGED = (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error)

Arrays = dict[str, npt.NDArray[np.generic]]


def read_npz(path: Path) -> OutcomeTable:
    """Read an ``.npz`` table (:mod:`stageroute_router.tables.load` has its arrays).

    Raises:
        TableError: it is not such a file, or an array is missing, misshapen or out of its domain.
    """
    arrays = _load(path)
    missing = [key for key in _REQUIRED if key not in arrays]
    if missing:
        raise TableError(
            f"{path}: the array(s) {', '.join(missing)} are missing; a table needs {', '.join(_REQUIRED)}"
        )
    reward, cost = _numbers(path, arrays, "reward"), _numbers(path, arrays, "cost")
    if reward.ndim != 2:
        raise TableError(f"{path}: reward has {reward.ndim} dimension(s); it needs two, queries and models")
    prompts = path.with_name(f"{path.stem}_prompts.jsonl.xz")
    return OutcomeTable(
        name=str(path),
        models=tuple(str(name) for name in np.atleast_1d(arrays["models"])),
        reward=reward,
        cost_usd=cost,
        task=_tasks(path, arrays),
        release=_strings(arrays, "release"),
        input_usd_per_token=_prices(path, arrays, "price_in"),
        output_usd_per_token=_prices(path, arrays, "price_out"),
        prompt_tokens=_tokens(path, arrays, "tok_in", shape=reward.shape),
        completion_tokens=_tokens(path, arrays, "tok_out", shape=reward.shape),
        prompts=PromptFile(prompts, rows=len(reward)) if prompts.is_file() else None,
    )


def _load(path: Path) -> Arrays:
    # Opened here: NumPy leaves the file open when it is no archive. And it would unpickle objects on request, but
    # unpickling runs code: refuse them.
    with path.open("rb") as file:
        try:
            archive = np.load(file, allow_pickle=False)
        except _DAMAGED as error:
            raise TableError(f"{path}: not an .npz archive; write it with numpy.savez_compressed") from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise TableError(
                f"{path}: a single array, not an .npz archive; write it with numpy.savez_compressed"
            )
        with archive:
            arrays: Arrays = {}
            for key in (*_REQUIRED, *_OPTIONAL):
                if key not in archive:
                    continue
                try:
                    arrays[key] = archive[key]
                except _DAMAGED as error:
                    message = (
                        f"{path}: the array {key} cannot be read ({error}); save plain numbers and strings"
                    )
                    raise TableError(message) from error
        return arrays


def _numbers(path: Path, arrays: Arrays, key: str) -> Floats:
    array = arrays[key]
    if array.dtype.kind not in "fiub":
        raise TableError(f"{path}: {key} holds {array.dtype}, not numbers")
    return array.astype(np.float64)


def _prices(path: Path, arrays: Arrays, key: str) -> Floats | None:
    return _numbers(path, arrays, key) / _TOKENS_PER_PRICE if key in arrays else None


def _tokens(path: Path, arrays: Arrays, key: str, *, shape: tuple[int, ...]) -> Floats | None:
    if key not in arrays:
        return None
    tokens = _numbers(path, arrays, key)
    tokens = np.where(tokens < 0.0, np.nan, tokens)
    # One count per query: the same prompt for all models.
    return np.broadcast_to(tokens[:, None], shape).copy() if tokens.shape == shape[:1] else tokens


def _strings(arrays: Arrays, key: str) -> tuple[str, ...] | None:
    return tuple(str(value) for value in np.atleast_1d(arrays[key])) if key in arrays else None


def _tasks(path: Path, arrays: Arrays) -> tuple[str, ...] | None:
    tasks, names = arrays.get("task"), _strings(arrays, "task_names")
    if tasks is None or names is None or tasks.dtype.kind not in "iu":
        return _strings(arrays, "task")
    numbers = [int(number) for number in tasks.astype(np.int64)]
    outside = [(row, number) for row, number in enumerate(numbers) if not 0 <= number < len(names)]
    if outside:
        row, number = outside[0]
        raise TableError(f"{path}: task of row {row} is {number}, but task_names has {len(names)} names")
    return tuple(names[number] for number in numbers)


class PromptFile(Sequence[str | None]):
    """The texts of a table's queries, read from their file when first asked for.

    Args:
        path: ``…_prompts.jsonl.xz``.
        rows: number of rows of the table.
    """

    def __init__(self, path: Path, *, rows: int) -> None:
        self._path = path
        self._rows = rows
        self._texts: list[str | None] | None = None

    def __len__(self) -> int:
        return self._rows

    @overload
    def __getitem__(self, row: int) -> str | None: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[str | None]: ...
    def __getitem__(self, row: int | slice) -> str | Sequence[str | None] | None:
        if self._texts is None:
            self._texts = self._read()
        return self._texts[row]

    def _read(self) -> list[str | None]:
        texts: list[str | None] = [None] * self._rows
        number = 0
        try:
            with lzma.open(self._path, "rt", encoding="utf-8") as lines:
                for number, line in enumerate(lines, start=1):  # noqa: B007 - named in the error below
                    entry = json.loads(line)
                    row, text = entry["i"], entry["prompt"]
                    if not (0 <= row < self._rows and (text is None or isinstance(text, str))):
                        raise ValueError
                    texts[row] = text
        except (lzma.LZMAError, EOFError, KeyError, TypeError, ValueError) as error:
            # The message leaves the line's text out: it may hold a prompt.
            message = (
                f"{self._path}: line {number} is not readable; every line must be "
                f'{{"i": row below {self._rows}, "prompt": text or null}}'
            )
            raise TableError(message) from error
        return texts
