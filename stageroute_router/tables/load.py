"""Read tables of recorded outcomes from files.

``.npz`` (NumPy's own archive) has the arrays

=================  ========================  ==============================================================
``reward``         float [Q, M]              score in [0, 1] of each model on each query
``cost``           float [Q, M]              US dollars of the call
``models``         str [M]                   model names
``task``           int [Q] or str [Q]        optional; numbers index ``task_names`` (str)
``release``        str [M]                   optional; ISO dates
``price_in``       float [M]                 optional; US dollars per *million* prompt tokens, NaN if unknown
``price_out``      float [M]                 optional; the same for completion tokens
``tok_in``         int [Q] or [Q, M]         optional; prompt tokens, negative if unknown
``tok_out``        int [Q] or [Q, M]         optional; completion tokens, negative if unknown
=================  ========================  ==============================================================

and other arrays are ignored. The queries' texts are read, when they are asked for, from ``<name>_prompts.jsonl.xz``
beside it, one ``{"i": row, "prompt": text or null}`` a line.

``.csv`` and ``.parquet`` have one line per call, in any order, with the columns ``query``, ``model``, ``reward``,
``cost_usd`` and, optionally, ``task``, ``prompt``, ``prompt_tokens``, ``completion_tokens``, ``input_usd_per_token``,
``output_usd_per_token``, ``release``. Every query needs a line for every model. Prices and release dates belong to
the model, task and prompt to the query: they must be the same on all of its lines. Prices are US dollars per token.
"""

from __future__ import annotations

from pathlib import Path

from stageroute_router.errors import TableError
from stageroute_router.tables.long import read_csv, read_parquet
from stageroute_router.tables.npz import read_npz
from stageroute_router.tables.outcomes import OutcomeTable, prior_costs

__all__ = ["OutcomeTable", "load_table", "prior_costs"]

_READERS = {".npz": read_npz, ".csv": read_csv, ".parquet": read_parquet}


def load_table(path: str | Path) -> OutcomeTable:
    r"""Read a table of recorded outcomes; its name is the file's.

    Args:
        path: an ``.npz``, ``.csv`` or ``.parquet`` file as described above.

    Raises:
        TableError: the file is missing, of another kind, or does not hold what it must; the message names the
            file, the place, the value and the fix.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "mine.csv"
    ...     _ = file.write_text("query,model,reward,cost_usd\n1,small,0.5,0.0001\n1,large,1,0.002\n")
    ...     table = load_table(file)
    >>> table.models, table.reward.tolist()
    (('small', 'large'), [[0.5, 1.0]])
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(_READERS)
        raise TableError(f"{path}: a table's name ends in {known}, not in {path.suffix or 'nothing'!r}")
    if not path.is_file():
        raise TableError(f"{path}: there is no such file; check the path")
    return reader(path)
