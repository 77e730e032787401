"""What all tests share: LiteLLM without a network, its own warnings kept apart from ours, and a real PostgreSQL."""

from __future__ import annotations

import gc
import os
import sys
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import pytest
from sqlalchemy import make_url

from tests.support.postgres import start_server

# Warnings that LiteLLM, or what it imports, causes by itself. Ours carry our file's name and stay errors.
LITELLMS_OWN = (
    "ignore::DeprecationWarning:litellm",
    "ignore::DeprecationWarning:pydantic",
    "ignore::UserWarning:pydantic",
    "ignore::ResourceWarning",
    "ignore:coroutine '.*' was never awaited:RuntimeWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bear LiteLLM's own warnings in tests that say they call it."""
    for item in items:
        if item.get_closest_marker("calls_litellm") is not None:
            for own in LITELLMS_OWN:
                item.add_marker(pytest.mark.filterwarnings(own))


def pytest_collection_finish() -> None:
    """Let the collector of garbage leave alone what stays: LiteLLM alone is a third of a million objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _drop_clients(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let go of LiteLLM's clients while their warnings are still this test's, and not some later one's."""
    yield
    if request.node.get_closest_marker("calls_litellm") is not None and "litellm" in sys.modules:
        sys.modules["litellm"].in_memory_llm_clients_cache.flush_cache()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()


_CALLBACKS = ("success_callback", "failure_callback", "_async_success_callback", "_async_failure_callback")


@pytest.fixture(autouse=True)
def _forget_routers() -> Iterator[None]:
    """Let go of what each of LiteLLM's routers adds to its lists: at a hundred, LiteLLM takes no callback any more.

    What was there before the test, such as that of a router which several tests share, stays.
    """
    before = {name: list(getattr(sys.modules.get("litellm"), name, ())) for name in _CALLBACKS}
    yield
    for name, earlier in before.items():
        known = getattr(sys.modules.get("litellm"), name, [])
        known[:] = [one for one in known if one in earlier or not _is_of_a_router(one)]


def _is_of_a_router(callback: object) -> bool:
    return type(getattr(callback, "__self__", None)).__module__ == "litellm.router"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server of this test run's own; its URL."""
    try:
        import psycopg  # noqa: PLC0415 - the environments of other LiteLLM versions have none

        server = start_server()
    except Exception as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"PostgreSQL cannot be started here: {error!r}")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        # Tests do not cut the power, and waiting for disks would take most of the time.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """Where there is nothing yet on that server."""
    with new_schema(postgres_server) as url:
        yield url


@pytest.fixture
def given_url() -> Iterator[str]:
    """Where there is nothing yet in the database named by ``STAGEROUTE_TEST_DATABASE_URL``.

    Tests keep to schemas of their own in it, and drop them.
    """
    with new_schema(os.environ["STAGEROUTE_TEST_DATABASE_URL"]) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_schema(postgres_server: str) -> Iterator[str]:
    """Where there is nothing yet on that server, for the whole run."""
    with new_schema(postgres_server) as url:
        yield url


@contextmanager
def new_schema(server: str) -> Iterator[str]:
    """Make a schema, and drop it in the end; the URL's connections see no other."""
    import psycopg  # noqa: PLC0415 - see above

    name = f"stageroute_test_{uuid.uuid4().hex}"
    plain = make_url(server).set(drivername="postgresql")
    with psycopg.connect(plain.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
        yield plain.update_query_dict({"options": f"-csearch_path={name}"}).render_as_string(
            hide_password=False
        )
        connection.execute(f"DROP SCHEMA {name} CASCADE")
