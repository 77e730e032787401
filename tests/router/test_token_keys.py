"""The secret of reward tokens: from the settings, or from one file that the processes of a host agree on."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stageroute_router.errors import SettingsError
from stageroute_router.rewards.tokens import TokenKey
from stageroute_router.router.token_keys import FEWEST_CHARACTERS, key_source, keys_of_file, parse_keys

SECRET = "only-for-tests-0123456789-abcdefghij"  # noqa: S105 - it says so


def test_the_first_key_signs_and_all_are_kept_in_order() -> None:
    keys = key_source([f"b:{SECRET}2", f"a:{SECRET}1"], database_url="postgresql://db/name")()
    assert keys == (
        TokenKey(key_id="b", secret=f"{SECRET}2".encode()),
        TokenKey(key_id="a", secret=f"{SECRET}1".encode()),
    )


@pytest.mark.parametrize(
    ("entry", "variable"),
    [("os.environ/TOKEN_KEY", f"k1:{SECRET}"), ("k1:os.environ/TOKEN_KEY", f"{SECRET}\n")],
)
def test_a_key_or_its_secret_may_be_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, entry: str, variable: str
) -> None:
    monkeypatch.setenv("TOKEN_KEY", variable)
    assert parse_keys([entry], place="keys") == (TokenKey(key_id="k1", secret=SECRET.encode()),)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([SECRET], r"keys\[0\] has no id"),
        ([f":{SECRET}"], r"keys\[0\] has no id"),
        ([f"two words:{SECRET}"], r"keys\[0\] has no id"),
        ([f"a-name-of-17-chars:{SECRET}"], r"keys\[0\] has no id"),
        (
            [f"a:{SECRET}", "b:" + "s" * (FEWEST_CHARACTERS - 1)],
            r"keys\[1\].*'b' has 31 characters.*least 32",
        ),
        ([f"a:{SECRET}", f"a:{SECRET}2"], "two keys with the id 'a'"),
        ([None], r"keys\[0\] is a NoneType"),
        (f"a:{SECRET}", "must be a list"),
        ([], "must be a list"),
        (["os.environ/UNSET_VARIABLE"], "'UNSET_VARIABLE', which is not set"),
        (["a:os.environ/UNSET_VARIABLE"], "'UNSET_VARIABLE', which is not set"),
    ],
)
def test_a_key_that_cannot_be_used_is_named_and_not_shown(entries: Sequence[str], says: str) -> None:
    with pytest.raises(SettingsError, match=says) as refused:
        parse_keys(entries, place="keys")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("url", ["postgresql://user:pw@db/name", "sqlite:///file:shared?uri=true"])
def test_hosts_that_share_a_database_have_to_be_given_a_secret(url: str) -> None:
    source = key_source([], database_url=url)
    with pytest.raises(SettingsError, match=r"all hosts share.*set reward_token_keys"):
        source()


@pytest.mark.parametrize("url", ["memory://", "sqlite://"])
def test_a_database_in_memory_has_a_secret_of_its_own(url: str) -> None:
    source = key_source([], database_url=url)
    assert source() == source()
    assert source() != key_source([], database_url=url)()


def test_the_file_beside_a_database_is_written_at_the_first_use_for_its_owner_only(tmp_path: Path) -> None:
    database = tmp_path / "s.db"
    source = key_source([], database_url=f"sqlite:///{database}")
    assert list(tmp_path.iterdir()) == []
    (key,) = source()
    file = tmp_path / "s.db.reward-keys"
    assert list(tmp_path.iterdir()) == [file]
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == f"{key.key_id}:{key.secret.decode()}\n"
    assert len(key.secret) >= FEWEST_CHARACTERS
    assert key_source([], database_url=f"sqlite:///{database}")() == (key,)


def test_the_file_stays_beside_the_database_when_the_program_changes_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = key_source([], database_url="sqlite:///s.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    source()
    assert (tmp_path / "s.db.reward-keys").exists()


RACES = 20


def _race(folder: Path, barrier: Any, found: Any) -> None:
    for number in range(RACES):
        barrier.wait(60)
        found.put((number, keys_of_file(folder / f"{number}.keys")))


def test_processes_that_start_at_the_same_moment_agree_on_one_secret(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, found = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_race, args=(tmp_path, barrier, found)) for _ in range(3)]
    for worker in workers:
        worker.start()
    seen = [found.get(timeout=60) for _ in range(3 * RACES)]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert set(seen) == {(number, keys_of_file(tmp_path / f"{number}.keys")) for number in range(RACES)}
    assert len(list(tmp_path.iterdir())) == RACES, "nothing else is left behind"


def test_a_key_added_to_the_file_signs_and_the_old_one_still_verifies(tmp_path: Path) -> None:
    path = tmp_path / "s.db.reward-keys"
    (old,) = keys_of_file(path)
    path.write_text(f"new:{SECRET}\n\n{path.read_text()}")
    assert keys_of_file(path) == (TokenKey(key_id="new", secret=SECRET.encode()), old)


def test_a_file_that_others_can_read_is_complained_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.db.reward-keys"
    (key,) = keys_of_file(path)
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING, logger="stageroute_router"):
        assert keys_of_file(path) == (key,)
    assert f"chmod 600 {path}" in caplog.text
    assert key.secret.decode() not in caplog.text


def test_a_file_that_cannot_be_used_has_a_clear_error(tmp_path: Path) -> None:
    missing = tmp_path / "no such folder" / "s.db.reward-keys"
    with pytest.raises(SettingsError, match=r"reward-keys.*set reward_token_keys"):
        keys_of_file(missing)
    empty = tmp_path / "empty.reward-keys"
    empty.touch(mode=0o600)
    with pytest.raises(SettingsError, match=r"empty\.reward-keys must be a list"):
        keys_of_file(empty)
    with pytest.raises(SettingsError, match="cannot be used"):
        keys_of_file(tmp_path)
    assert os.listdir(tmp_path) == ["empty.reward-keys"]  # noqa: PTH208 - the names are what is asked
