"""The status of groups told from the database alone: no router, no LiteLLM."""

from __future__ import annotations

import json
import time

from stageroute_router.core.arm import Arm
from stageroute_router.core.engine import Engine
from stageroute_router.settings import GroupSettings
from stageroute_router.status import GroupStatus, Status, describe
from stageroute_router.store.base import Store
from stageroute_router.store.opening import open_existing_store
from stageroute_router.stored_state import by_arm, notes_on, stage_of


def status_of(database_url: str) -> Status:
    """Return the status of every group in a database.

    The same computation as in a routing process, from the same settings, candidates, statistics and stage, all of
    which are stored. Probabilities of the posterior rule differ from a routing process's by the noise of its draws.

    Raises:
        StoreError: there is no such database, or it cannot be used.
    """
    store = open_existing_store(database_url)
    try:
        found = (_status_of(store, name) for name in store.groups())
        return Status(groups=tuple(group for group in found if group is not None))
    finally:
        store.close()


def _status_of(store: Store, name: str) -> GroupStatus | None:
    stored = store.load(name)
    if stored.configuration is None or stored.stage is None:
        return None
    settings = GroupSettings.model_validate(json.loads(stored.configuration.settings))
    policy = settings.policy()
    arms = [Arm(**arm) for arm in json.loads(stored.configuration.arms)]
    snapshot = Engine(policy, seed=0).start(
        arms,
        now=time.time(),
        statistics=by_arm(stored.statistics),
        account=stored.account,
        stage=stage_of(policy, stored.stage),
    )
    return describe(name, policy=policy, snapshot=snapshot, notes=notes_on(stored.problems))
