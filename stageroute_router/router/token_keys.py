"""Where the secret behind reward tokens comes from: the settings, or a file beside an SQLite database.

All processes that make or take tokens need the same secret. Those of one host that share an SQLite file share the
key file beside it, which the first of them writes. Several hosts share a secret only if the operator gives it to them.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from stageroute_router.errors import SettingsError
from stageroute_router.rewards.tokens import TokenKey
from stageroute_router.store.opening import MEMORY_URL
from stageroute_router.store.sql.drivers.sqlite import is_in_memory

FEWEST_CHARACTERS = 32
"""A secret's least length: 32 random characters, even hexadecimal ones, hold the 128 bits that signatures have."""

FILE_SUFFIX = ".reward-keys"
"""The key file of ``stageroute.db`` is ``stageroute.db.reward-keys``."""

_REFERENCE = "os.environ/"
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,16}")
_HOW = (
    'write "id:secret", or "os.environ/NAME" for an environment variable that holds it; '
    'a good secret: python -c "import secrets; print(secrets.token_urlsafe(32))"'
)

Keys = tuple[TokenKey, ...]

logger = logging.getLogger("stageroute_router")


def key_source(configured: Sequence[str], *, database_url: str) -> Callable[[], Keys]:
    """Return what gives the keys when tokens are first used.

    Args:
        configured: ``"id:secret"``, the signing key first. Each of them, or its secret alone, may be a reference
            as LiteLLM writes it: ``"os.environ/NAME"``. Empty: the key file of an SQLite database; a random key
            for a database in memory; no key, and so an error at the first use, for all others.
        database_url: the database, as an SQLAlchemy URL.

    Raises:
        SettingsError: a configured key cannot be used. Its value is never part of the message.
    """
    if configured:
        keys = parse_keys(configured, place="reward_token_keys")
        return lambda: keys
    url = _parsed(database_url)
    if url is None or (url.get_backend_name() == "sqlite" and is_in_memory(url)):
        keys = (_random_key(),)
        return lambda: keys
    if url.get_backend_name() == "sqlite" and url.database and not url.database.startswith("file:"):
        path = Path(url.database).expanduser().absolute()
        return functools.cache(lambda: keys_of_file(path.with_name(path.name + FILE_SUFFIX)))
    return _no_key


def parse_keys(entries: Sequence[str], *, place: str) -> Keys:
    """Read keys as the user wrote them.

    Raises:
        SettingsError: there is none, or one of them cannot be used. No secret is part of the message.
    """
    if isinstance(entries, str) or not entries:
        raise SettingsError(f'{place} must be a list of at least one "id:secret"; {_HOW}')
    keys = tuple(_parse_key(entry, place=f"{place}[{index}]") for index, entry in enumerate(entries))
    ids = [key.key_id for key in keys]
    twice = sorted({key_id for key_id in ids if ids.count(key_id) > 1})
    if twice:
        raise SettingsError(f"{place} has two keys with the id {twice[0]!r}; give the new one another id")
    return keys


def keys_of_file(path: Path) -> Keys:
    """Return the keys in a file, one ``id:secret`` a line, after writing a first one if there is no such file.

    Processes that start at the same moment agree on one file: it appears whole, and is never replaced.

    Raises:
        SettingsError: the file cannot be read or written, or its keys cannot be used.
    """
    try:
        if not path.exists():
            _write_first_key(path)
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            lines = [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"the key file {path} of reward tokens cannot be used ({type(error).__name__}); "
            f"make it readable to this program, or set reward_token_keys"
        ) from error
    if mode & 0o077:
        logger.warning("the key file %s can be read by others (mode %o); run: chmod 600 %s", path, mode, path)
    return parse_keys(lines, place=str(path))


def _write_first_key(path: Path) -> None:
    key = _random_key()
    # Readable by its owner only, from the first moment on.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{key.key_id}:{key.secret.decode()}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process came first: its key is the one
            os.link(name, path)
    finally:
        Path(name).unlink()


def _random_key() -> TokenKey:
    return TokenKey(key_id=secrets.token_hex(4), secret=secrets.token_urlsafe(32).encode())


def _parse_key(entry: object, *, place: str) -> TokenKey:
    key_id, colon, secret = _resolved(entry, place=place).partition(":")
    if not colon or not _KEY_ID.fullmatch(key_id):
        raise SettingsError(
            f"{place} has no id of 1 to 16 letters, digits, '_' or '-' before a colon (it is not shown); {_HOW}"
        )
    secret = _resolved(secret, place=place)
    if len(secret) < FEWEST_CHARACTERS:
        raise SettingsError(
            f"{place}: the secret of key {key_id!r} has {len(secret)} characters, and needs at least "
            f"{FEWEST_CHARACTERS}; {_HOW}"
        )
    return TokenKey(key_id=key_id, secret=secret.encode())


def _resolved(entry: object, *, place: str) -> str:
    """Return a text, or what the environment variable holds that it refers to."""
    if not isinstance(entry, str):
        raise SettingsError(f"{place} is a {type(entry).__name__}; {_HOW}")
    if not entry.startswith(_REFERENCE):
        return entry
    name = entry[len(_REFERENCE) :]
    found = os.environ.get(name)
    if not found:
        raise SettingsError(f"{place} refers to the environment variable {name!r}, which is not set; set it")
    return found.strip()


def _parsed(database_url: str) -> URL | None:
    """Return a database's URL; None for no database, or none that can be opened, which opening it says better."""
    if database_url == MEMORY_URL:
        return None
    try:
        return make_url(database_url)
    except ArgumentError:
        return None


def _no_key() -> Keys:
    raise SettingsError(
        "reward tokens need a secret that all hosts share, because the database is not a plain file of this host: set "
        f"reward_token_keys to the same list everywhere; {_HOW}"
    )
