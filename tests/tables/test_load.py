"""Tables of recorded outcomes: what is read, and what is refused with which words."""

from __future__ import annotations

import csv
import json
import lzma
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stageroute_router.errors import TableError
from stageroute_router.tables.load import load_table
from stageroute_router.tables.outcomes import OutcomeTable, prior_costs

DATA = Path(os.environ.get("STAGEROUTE_DATA", "../shared/data"))

ARRAYS: dict[str, Any] = {
    "reward": np.array([[0.0, 1.0], [0.5, 0.25], [1.0, 1.0]], dtype=np.float32),
    "cost": np.array([[0.001, 0.01], [0.002, 0.02], [0.0, 0.03]]),
    "models": np.array(["small", "large"]),
    "task": np.array([1, 0, 1], dtype=np.int16),
    "task_names": np.array(["code", "law"]),
    "release": np.array(["2024-01-01", "2024-02-01"]),
    "price_in": np.array([1.0, np.nan]),
    "price_out": np.array([2.0, np.nan]),
    "tok_in": np.array([10, -1, 30], dtype=np.int16),
    "tok_out": np.array([[1, 2], [3, -1], [5, 6]], dtype=np.int16),
}
LINES = [
    "query,model,reward,cost_usd,task,prompt,prompt_tokens,input_usd_per_token,release",
    "q1,small,0,0.001,law,why?,10,1e-6,2024-01-01",
    "q1,large,1,0.01,law,why?,,,",
    "q2,large,0.25,0.02,,,,,",
    "q2,small,0.5,0.002,,,20,1e-6,2024-01-01",
]


def write_npz(folder: Path, **changes: Any) -> Path:
    arrays = {name: array for name, array in {**ARRAYS, **changes}.items() if array is not None}
    np.savez_compressed(path := folder / "t.npz", **arrays)
    return path


def write_prompts(folder: Path, lines: list[str]) -> None:
    with lzma.open(folder / "t_prompts.jsonl.xz", "wt") as file:
        file.write("\n".join(lines) + "\n")


def write_csv(folder: Path, lines: list[str]) -> Path:
    (path := folder / "t.csv").write_text("\n".join(lines) + "\n")
    return path


def write_parquet(folder: Path, lines: list[str]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet  # noqa: PLC0415

    header, *rows = list(csv.reader(lines))
    numbers = {"reward", "cost_usd", "prompt_tokens", "input_usd_per_token"}

    def value(name: str, text: str) -> object:
        if not text:
            return None
        return float(text) if name in numbers else text

    columns = {name: [value(name, row[at]) for row in rows] for at, name in enumerate(header)}
    parquet.write_table(pyarrow.table(columns), path := folder / "t.parquet")
    return path


WRITERS = pytest.mark.parametrize("write", [write_csv, write_parquet])


def test_an_archive_is_read_with_prices_per_token_and_unknown_counts_as_nan(tmp_path: Path) -> None:
    table = load_table(write_npz(tmp_path))
    assert table.models == ("small", "large")
    assert (table.reward.dtype, table.reward.tolist()) == (np.float64, ARRAYS["reward"].tolist())
    assert table.cost_usd.tolist() == ARRAYS["cost"].tolist()
    assert table.task == ("law", "code", "law")
    assert table.release == ("2024-01-01", "2024-02-01")
    np.testing.assert_allclose(table.input_usd_per_token, [1e-6, np.nan])
    np.testing.assert_array_equal(table.prompt_tokens, [[10, 10], [np.nan, np.nan], [30, 30]])
    np.testing.assert_array_equal(table.completion_tokens, [[1, 2], [3, np.nan], [5, 6]])
    assert table.prompts is None
    np.testing.assert_allclose(table.mean_reward, [0.5, 0.75])
    np.testing.assert_allclose(table.mean_cost_usd, [0.001, 0.02])


def test_an_archive_needs_no_more_than_rewards_costs_and_names(tmp_path: Path) -> None:
    np.savez(path := tmp_path / "t.npz", **{key: ARRAYS[key] for key in ("reward", "cost", "models")})
    table = load_table(str(path))
    assert (table.task, table.release, table.input_usd_per_token, table.prompt_tokens) == (None,) * 4
    assert prior_costs(table) == (None, None)


def test_task_labels_may_be_words(tmp_path: Path) -> None:
    table = load_table(write_npz(tmp_path, task=np.array(["a", "b", "a"]), task_names=None))
    assert table.task == ("a", "b", "a")


def test_prompts_are_read_when_asked_for(tmp_path: Path) -> None:
    write_prompts(
        tmp_path, ['{"i": 2, "prompt": "third"}', '{"i": 0, "prompt": null}', '{"i": 1, "prompt": ""}']
    )
    table = load_table(write_npz(tmp_path))
    assert table.prompts is not None
    (tmp_path / "t_prompts.jsonl.xz").rename(tmp_path / "moved")
    assert len(table.prompts) == 3
    (tmp_path / "moved").rename(tmp_path / "t_prompts.jsonl.xz")
    assert list(table.prompts) == [None, "", "third"]
    assert table.prompts[1:] == ["", "third"]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"i": 1}',
        '{"i": 3, "prompt": "x"}',
        '{"i": -1, "prompt": "x"}',
        '{"i": 1, "prompt": 5}',
        '{"i": "secret", "prompt": "x"}',
    ],
)
def test_an_unreadable_prompt_is_named_by_line_and_not_by_text(tmp_path: Path, line: str) -> None:
    write_prompts(tmp_path, ['{"i": 0, "prompt": "first"}', line])
    prompts = load_table(write_npz(tmp_path)).prompts
    assert prompts is not None
    with pytest.raises(TableError, match=r"t_prompts.jsonl.xz: line 2 is not readable") as caught:
        list(prompts)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reward": None}, r"t.npz: the array\(s\) reward are missing"),
        ({"cost": None, "models": None}, r"t.npz: the array\(s\) cost, models are missing"),
        ({"reward": np.ones(3)}, "reward has 1 dimension"),
        (
            {"reward": np.array([[0, 1], [0.5, 1.5], [1, 2]])},
            r"reward of row 1, model 'large' is 1.5 \(and 1 more\)",
        ),
        (
            {"reward": np.array([[0, 1], [-0.1, 1], [1, 1]])},
            "reward of row 1, model 'small' is -0.1; .*rescale",
        ),
        ({"reward": np.array([[0, 1], [0, 1], [1, np.nan]])}, "reward of row 2, model 'large' is nan"),
        ({"reward": np.array([["a", "b"]] * 3)}, "reward holds <U1, not numbers"),
        (
            {"cost": np.array([[1, 1], [1, -2.0], [1, 1]])},
            "cost_usd of row 1, model 'large' is -2.0; every call",
        ),
        ({"cost": np.array([[1, 1], [1, 1], [np.nan, 1]])}, "cost_usd of row 2, model 'small' is nan"),
        ({"cost": np.array([[1, 1], [1, 1], [np.inf, 1]])}, "cost_usd of row 2, model 'small' is inf"),
        (
            {"cost": np.ones((2, 2))},
            r"cost_usd has the shape \(2, 2\), but 3 queries and 2 models make it \(3, 2\)",
        ),
        ({"reward": np.ones((0, 2)), "cost": np.ones((0, 2))}, "no rows"),
        ({"models": np.array([], dtype="U1")}, "no models"),
        ({"models": np.array(["a", "a"])}, "unique and not empty; see a"),
        ({"models": np.array(["a", ""])}, "unique and not empty; see the empty name"),
        ({"models": np.array(["a", "b", "c"])}, "reward has the shape"),
        ({"task": np.array([0, 2, 1])}, "task of row 1 is 2, but task_names has 2 names"),
        ({"task": np.array([0, 1])}, r"task has the shape \(2,\)"),
        ({"release": np.array(["2024-01-01"])}, r"release has the shape \(1,\)"),
        ({"price_in": np.array([-1.0, 1.0])}, "input_usd_per_token of 'small' is -1e-06"),
        ({"price_out": np.ones(3)}, "output_usd_per_token has the shape"),
        ({"tok_out": np.ones(2)}, "completion_tokens has the shape"),
        ({"tok_out": np.full((3, 2), np.inf)}, "completion_tokens of row 0, model 'small' is inf"),
        ({"models": np.array(["a", None], dtype=object)}, "the array models cannot be read"),
    ],
)
def test_a_wrong_archive_is_refused_by_place_and_value(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(TableError, match=said) as caught:
        load_table(write_npz(tmp_path, **changes))
    assert str(tmp_path / "t.npz") in str(caught.value)


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"gone.npz: there is no such file"):
        load_table(tmp_path / "gone.npz")
    with pytest.raises(TableError, match=r"ends in .npz, .csv, .parquet, not in '.json'"):
        load_table(tmp_path / "t.json")
    with pytest.raises(TableError, match="not in 'nothing'"):
        load_table(tmp_path)
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(TableError, match=r"not an \.npz archive"):
        load_table(tmp_path / "text.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(TableError, match=r"not an \.npz archive"):
        load_table(tmp_path / "empty.npz")
    with (tmp_path / "single.npz").open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(TableError, match="a single array"):
        load_table(tmp_path / "single.npz")
    whole = write_npz(tmp_path).read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TableError, match=r"not an \.npz archive"):
        load_table(tmp_path / "half.npz")


def test_a_pickled_archive_is_not_unpickled(tmp_path: Path) -> None:
    """Unpickling runs code; the file is refused before that."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    path = write_npz(tmp_path, models=np.array([Bomb(), Bomb()], dtype=object))
    with pytest.raises(TableError, match="cannot be read"):
        load_table(path)
    assert not (tmp_path / "exploded").exists()


@WRITERS
def test_lines_of_calls_make_a_table_in_order_of_appearance(tmp_path: Path, write: Any) -> None:
    table = load_table(write(tmp_path, LINES))
    assert table.models == ("small", "large")
    assert table.reward.tolist() == [[0.0, 1.0], [0.5, 0.25]]
    assert table.cost_usd.tolist() == [[0.001, 0.01], [0.002, 0.02]]
    assert table.task == ("law", "")
    assert list(table.prompts or ()) == ["why?", None]
    np.testing.assert_array_equal(table.prompt_tokens, [[10, np.nan], [20, np.nan]])
    np.testing.assert_array_equal(table.input_usd_per_token, [1e-6, np.nan])
    assert table.release == ("2024-01-01", "")
    assert table.completion_tokens is None


def test_a_csv_file_may_have_a_mark_spaces_further_columns_and_empty_lines(tmp_path: Path) -> None:
    text = "\ufeffmodel, query ,reward,cost_usd,notes\na, 1 ,1,0.5,fine\n\n"
    (path := tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert load_table(path).reward.tolist() == [[1.0]]


def changed(line: int, column: str, value: str) -> list[str]:
    rows = [text.split(",") for text in LINES]
    rows[line][rows[0].index(column)] = value
    return [",".join(row) for row in rows]


@WRITERS
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["query,model,reward"], r"the column\(s\) cost_usd are missing; .* and has query, model, reward"),
        (LINES[:1], "no rows"),
        (
            changed(1, "reward", "1.5"),
            r"(line 2|row 0): reward of query q1, model 'small' is '?1.5'?; .*rescale",
        ),
        (changed(1, "reward", "nan"), r"(line 2|row 0): reward of query q1, model 'small' is '?nan'?"),
        (changed(3, "reward", ""), r"(line 4|row 2): reward of query q2, model 'large' is missing"),
        (
            changed(3, "cost_usd", "-1"),
            r"(line 4|row 2): cost_usd of query q2, model 'large' is '?-1.*US dollars",
        ),
        (changed(3, "cost_usd", ""), r"(line 4|row 2): cost_usd of query q2, model 'large' is missing"),
        (changed(3, "cost_usd", "inf"), r"(line 4|row 2): cost_usd of query q2, model 'large' is '?inf'?"),
        (changed(4, "query", ""), r"(line 5|row 3): query is missing"),
        (changed(4, "model", ""), r"(line 5|row 3): model is missing"),
        (
            changed(4, "model", "large"),
            r"(line 5|row 3): query q2, model 'large' was already on (line 4|row 2)",
        ),
        (LINES[:-1], r"query q2 has no line for model 'small' \(1 missing in all\)"),
        (
            changed(2, "task", "code"),
            r"(line 3|row 1): task differs from an earlier line of the same query \(q1\)",
        ),
        (
            changed(4, "input_usd_per_token", "2e-6"),
            r"(line 5|row 3): input_usd_per_token differs .* model \(small\)",
        ),
        (
            [*changed(1, "input_usd_per_token", "-1")[:2], LINES[2]],
            r"(line 2|row 0): input_usd_per_token of query q1, model 'small' is '?-1",
        ),
    ],
)
def test_wrong_lines_are_refused_by_place_and_value(
    tmp_path: Path, write: Any, lines: list[str], said: str
) -> None:
    path = write(tmp_path, lines)
    with pytest.raises(TableError, match=said) as caught:
        load_table(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], r"query, model, reward, cost_usd are missing; .* and has none"),
        (["query,model,reward,cost_usd,reward", "1,a,1,1,1"], r"the column\(s\) reward appear twice"),
        (["query,model,reward,cost_usd", "1,a,1"], "line 2 has 3 fields, but the header has 4"),
        (changed(1, "reward", "good"), r"line 2: reward of query q1, model 'small' is 'good'"),
        (
            changed(1, "prompt_tokens", "many"),
            r"line 2: prompt_tokens of query q1, model 'small' is 'many'; give a number",
        ),
        (changed(1, "prompt_tokens", "-5"), "prompt_tokens of row 0, model 'small' is -5.0"),
        (["query,model,reward,cost_usd", '"1,a,1,1'], "not a CSV file"),
    ],
)
def test_wrong_csv_files_are_refused(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(TableError, match=said):
        load_table(write_csv(tmp_path, lines))


def test_other_encodings_and_damaged_files_are_refused(tmp_path: Path) -> None:
    (path := tmp_path / "t.csv").write_bytes("query,model,reward,cost_usd\nä,a,1,1\n".encode("latin-1"))
    with pytest.raises(TableError, match="not a CSV file in UTF-8"):
        load_table(path)
    pytest.importorskip("pyarrow")
    (path := tmp_path / "t.parquet").write_text("hello")
    with pytest.raises(TableError, match="not a Parquet file"):
        load_table(path)


def test_without_pyarrow_parquet_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path := tmp_path / "t.parquet").write_text("")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(TableError, match=r"install stageroute-router\[parquet\] or convert"):
        load_table(path)


@settings(deadline=None, max_examples=50)
@given(data=st.data(), queries=st.integers(1, 6), models=st.integers(1, 4))
def test_any_order_of_lines_gives_the_same_outcomes(
    data: st.DataObject, queries: int, models: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cells = [(query, model) for query in range(queries) for model in range(models)]
    shuffled = data.draw(st.permutations(cells))
    reward = {cell: (7 * cell[0] + 3 * cell[1]) % 11 / 10 for cell in cells}
    lines = ["query,model,reward,cost_usd"]
    lines += [f"q{query},m{model},{reward[query, model]},{query + model}" for query, model in shuffled]
    table = load_table(write_csv(tmp_path_factory.mktemp("long"), lines))
    rows = list(dict.fromkeys(query for query, _ in shuffled))
    for row, query in enumerate(rows):
        for column, name in enumerate(table.models):
            assert table.reward[row, column] == reward[query, int(name[1:])]
            assert table.cost_usd[row, column] == query + int(name[1:])


def test_prior_costs_take_the_groups_tokens_and_the_models_prices(tmp_path: Path) -> None:
    table = load_table(write_npz(tmp_path, price_in=np.array([1.0, 10.0]), price_out=np.array([2.0, np.nan])))
    small, large = prior_costs(table)
    assert small == pytest.approx(20e-6 + 2e-6 * (1 + 2 + 3 + 5 + 6) / 5)
    assert large is None


def test_prior_costs_without_completion_tokens_are_the_prompts(tmp_path: Path) -> None:
    table = load_table(write_npz(tmp_path, tok_out=None))
    assert prior_costs(table) == (pytest.approx(20e-6), None)
    unknown = load_table(write_npz(tmp_path, tok_in=np.full(3, -1)))
    assert prior_costs(unknown) == (None, None)
    assert prior_costs(load_table(write_npz(tmp_path, price_out=None))) == (None, None)


@pytest.mark.shared_data
@pytest.mark.skipif(not (DATA / "routerbench3.npz").is_file(), reason=f"no recorded tables in {DATA}")
@pytest.mark.parametrize(
    ("name", "queries", "models", "priced"),
    [("routerbench3", 3150, 11, False), ("bfcl71", 1700, 71, True), ("openllm_v2", 21606, 18, True)],
)
def test_the_recorded_tables_are_read(name: str, queries: int, models: int, priced: bool) -> None:  # noqa: FBT001
    table = load_table(DATA / f"{name}.npz")
    assert table.reward.shape == (queries, models)
    assert table.release is not None
    assert all(table.release)
    assert [cost is not None for cost in prior_costs(table)] == [priced] * models
    assert table.prompts is not None
    assert any(table.prompts)
    assert json.loads(json.dumps(table.prompts[0])) is not None
    assert isinstance(table, OutcomeTable)
