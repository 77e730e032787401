"""The endpoints themselves: which path does what, for whom, and what it can answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from stageroute_router.errors import SettingsError
from stageroute_router.proxy.api.access import Asker, asker_of, let_keys_in
from stageroute_router.proxy.api.openapi import (
    PIN_BODY,
    REWARD_BODY,
    BatchRefused,
    BatchTaken,
    ErrorAnswer,
    describe,
    read_pin,
    refusals,
)
from stageroute_router.proxy.api.problems import Problem, shown, unknown_call
from stageroute_router.proxy.api.requests import GuardedRoute, KnockingRequest, answer, looked_for
from stageroute_router.proxy.api.rewards import DEFAULT_SOURCE, Rewards, RewardTaken
from stageroute_router.proxy.interfaces import ProxyRouting
from stageroute_router.reports.endpoints import (
    DECISION,
    HEALTH,
    HISTORY,
    PIN,
    PREFIX,
    REDEPLOY,
    STAGES,
    STATUS,
    Endpoint,
)
from stageroute_router.reports.status import Status
from stageroute_router.store.health import Health

_ID_OF_A_CALL = "The response's `id`, or its header `x-stageroute-decision-id` or `x-litellm-call-id`."

_Told = TypeVar("_Told")
_Handler = TypeVar("_Handler", bound=Callable[..., Any])

# What several of the signatures below say, for FastAPI to read.
_GROUP = Query(max_length=256, description="The model group.", examples=["chat"])
_SOURCE = Query(
    default=None,
    max_length=64,
    pattern=r"^[A-Za-z0-9_.:/@+ -]+$",
    description=f"Whose reward, `{DEFAULT_SOURCE}` by default; others' stay.",
)


def api_router(proxy: ProxyRouting, *, sources: Collection[str] = (DEFAULT_SOURCE,)) -> APIRouter:
    """Return the endpoints, ready to be included in the application of LiteLLM's proxy.

    Args:
        proxy: where the routing of the proxy's present router is found.
        sources: the names under which keys that are no proxy admin's may report rewards; the first is the
            default for all keys.
    """
    from litellm.proxy.auth.user_api_key_auth import (  # noqa: PLC0415 - seconds, and loaded where a proxy runs
        user_api_key_auth,
    )

    let_keys_in(PREFIX)
    known = _knowing(user_api_key_auth)
    router = APIRouter(
        prefix=PREFIX,
        route_class=GuardedRoute,
        tags=["StageRoute"],
        generate_unique_id_function=lambda route: f"stageroute_{route.name}",
    )
    _add_rewards(router, proxy, known=known, rewards=Rewards(sources=sources))
    _add_reports(router, proxy, known=known)
    _add_operations(router, proxy, known=known)

    document: list[dict[str, Any]] = []  # made when it is first asked for: few do

    @router.get(
        "/openapi.json",
        summary="This description",
        response_class=Response,
        responses={200: {"description": "An OpenAPI document of these endpoints alone."}, **refusals()},
    )
    async def openapi(asker: Asker = Depends(known)) -> Response:
        """Describe these endpoints, for people and for generated clients."""
        if not document:
            document.append(describe(router.routes))
        return answer(document[0])

    return router


def _knowing(user_api_key_auth: Callable[..., Any]) -> Callable[..., Any]:
    """Return the dependency that knows who asks: LiteLLM's own check comes before anything of ours."""

    async def known(request: Request, auth: Any = Depends(user_api_key_auth)) -> Asker:  # noqa: ANN401
        asker = asker_of(auth)
        if isinstance(request, KnockingRequest):
            request.is_known = True
        return asker

    return known


def _add_rewards(
    router: APIRouter, proxy: ProxyRouting, *, known: Callable[..., Any], rewards: Rewards
) -> None:
    @router.post(
        "/reward",
        summary="Report how good an answer was",
        response_class=Response,
        openapi_extra={"requestBody": REWARD_BODY},
        responses={
            200: {
                "model": RewardTaken | list[BatchTaken | BatchRefused],
                "description": "Stored, or already so. Of a batch: what became of each, in order.",
            },
            202: {
                "model": RewardTaken,
                "description": "Stored, and counted as soon as a call with this id appears.",
            },
            **refusals(400, 404, 413, 422),
        },
    )
    async def reward(request: Request, asker: Asker = Depends(known)) -> Response:
        """Report one reward or a batch of them; it is durable when this answers.

        A key rewards the calls that were made with it, a proxy admin's key any call. The same call and source again
        replaces the earlier value; by token, the first one counts. Repeating is harmless.
        """
        body = await request.sent() if isinstance(request, KnockingRequest) else await request.body()
        taken = await rewards.take(proxy.control(), body, asker=asker)
        if isinstance(taken, list):
            return answer(taken)
        return answer(taken.body(), status=taken.code)

    @router.delete(
        "/reward",
        summary="Take a reward back",
        response_class=Response,
        responses={
            200: {"model": RewardTaken, "description": "Taken back, or there was none."},
            **refusals(400, 404, 422),
        },
    )
    async def revoke(
        key: str = Query(
            alias="id", min_length=1, max_length=2048, pattern=r"^[!-~]+$", description=_ID_OF_A_CALL
        ),
        source: str | None = _SOURCE,
        asker: Asker = Depends(known),
    ) -> Response:
        """Take back what was reported of a call, by source. Doing so again changes nothing."""
        taken = await rewards.revoke(proxy.control(), key, source=source, asker=asker)
        return answer(taken.body(), status=taken.code)


def _add_reports(router: APIRouter, proxy: ProxyRouting, *, known: Callable[..., Any]) -> None:
    # Plain functions run in a thread: what they read may wait for the database.

    @_route(router, STATUS, "What the groups do now", refusals(404, 422))
    def status(
        group: str | None = Query(
            default=None, max_length=256, description="Only this model group; all by default."
        ),
        asker: Asker = Depends(known),
    ) -> Response:
        """Tell live set, probabilities, bounds, spend against budget and shadow price of all groups, or of one."""
        asker.look()
        control = proxy.control()
        if group is None:
            return answer(control.status().to_dict())
        found = Status(groups=(_of_group(group, lambda: control.status(group)),))
        return answer(found.to_dict())

    @_route(router, STAGES, "How the live set changed", refusals(404, 422))
    def stages(
        group: str = _GROUP,
        last: int = _count(STAGES, "last"),
        asker: Asker = Depends(known),
    ) -> Response:
        """Tell the last stages of a group, the oldest first: who came, who left, and why."""
        asker.look()
        return answer(_of_group(group, lambda: proxy.control().stages(group, last=last)))

    @_route(router, HISTORY, "Spend and reward over time", refusals(404, 422))
    def history(
        group: str = _GROUP,
        points: int = _count(HISTORY, "points"),
        asker: Asker = Depends(known),
    ) -> Response:
        """Tell a group's totals at moments until now, the oldest first; differences tell what happened in between."""
        asker.look()
        return answer(_of_group(group, lambda: proxy.control().history(group, points=points)))

    @_route(router, DECISION, "Why a call went where it went", refusals(404, 422))
    async def decision(
        key: str = Path(alias="id", min_length=1, max_length=2048, description=_ID_OF_A_CALL),
        asker: Asker = Depends(known),
    ) -> Response:
        """Tell the receipt of a decision. To a key that is no proxy admin's, calls of other keys are unknown ones.

        Where `estimates_of` names a segment, the alternatives' `segment_reward`, `segment_cost_usd` and `value` are
        what was expected of its calls. Where `priced`, the shadow price is the caller's own.
        """
        caller = None if asker.may_look else asker.own_calls_of()
        control = proxy.control()
        # In a thread: it waits for the database.
        found = await looked_for(partial(run_in_threadpool, control.receipt, key, caller=caller))
        if found is None:
            raise unknown_call(key)
        return answer(found)

    @_route(
        router,
        HEALTH,
        "Whether what is learned is stored",
        {
            200: {"model": Health, "description": "`ok`, or `degraded`: nothing is lost."},
            **refusals(),
            503: {
                "model": Health | ErrorAnswer,
                "description": "`unhealthy`: an operator is needed. Or the proxy is not ready.",
            },
        },
    )
    async def health(asker: Asker = Depends(known)) -> Response:
        """Tell whether what this worker learns is stored. Routing goes on in any case."""
        asker.look()
        found = proxy.control().health()
        return answer(found, status=503 if found.state == "unhealthy" else 200)


def _add_operations(router: APIRouter, proxy: ProxyRouting, *, known: Callable[..., Any]) -> None:
    @_route(router, REDEPLOY, "Open a maintenance window now", refusals(404, 422))
    def redeploy(
        group: str = Path(max_length=256, description="The model group.", examples=["chat"]),
        asker: Asker = Depends(known),
    ) -> Response:
        """Plan a group's next stage now, and tell its status after it. For proxy admins."""
        asker.administrate()
        found = _of_group(group, lambda: proxy.control().redeploy(group))
        return answer(found)

    @_route(router, PIN, "Keep an arm live in every stage", refusals(404, 409, 413, 422), body=PIN_BODY)
    async def pin(
        request: Request,
        group: str = Path(max_length=256, description="The model group.", examples=["chat"]),
        asker: Asker = Depends(known),
    ) -> Response:
        """Pin an arm, unpin it, or leave it to the configuration again, and tell the group's status. For proxy admins.

        All workers go by it, and after a restart too. An arm that is pinned and not live gets a maintenance window now;
        one that is unpinned stays live until the next. Repeating is harmless.
        """
        asker.administrate()
        control = proxy.control()
        wanted = read_pin(
            await request.sent() if isinstance(request, KnockingRequest) else await request.body()
        )
        # It waits for the database.
        return answer(await run_in_threadpool(control.pin, group, wanted.arm, pinned=wanted.pinned))


def _route(
    router: APIRouter,
    endpoint: Endpoint[Any],
    summary: str,
    answers: Mapping[int | str, dict[str, Any]],
    *,
    body: Mapping[str, Any] | None = None,
) -> Callable[[_Handler], _Handler]:
    """Return what makes a function answer an endpoint of the table."""
    return router.api_route(
        re.sub(r"{(\w+)}", r"{\1:stageroute_text}", endpoint.path),
        methods=[endpoint.method],
        summary=summary,
        response_class=Response,
        responses={200: {"model": endpoint.shape}, **answers},
        openapi_extra=None if body is None else {"requestBody": dict(body)},
    )


def _count(endpoint: Endpoint[Any], name: str) -> Any:  # noqa: ANN401 - what FastAPI takes as a default
    count = endpoint.query[name]
    return Query(default=count.default, ge=1, le=count.most, description=count.description)


def _of_group(group: str, ask: Callable[[], _Told]) -> _Told:
    try:
        return ask()
    except SettingsError as error:
        raise Problem(404, "unknown_group", f"there is no managed group {shown(group)}") from error
