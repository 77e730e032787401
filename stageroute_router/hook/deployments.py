"""From LiteLLM's deployments to our arms: identity, settings in ``model_info.stageroute``, list prices.

Deployments of one group with the same ``litellm_params.model`` (or the same ``model_info.stageroute.arm``) are
replicas of one arm. A setting may stand at any of them and then holds for the arm; two replicas that give the
same setting different values are an error. Rate limits (``rpm``, ``tpm``) add up over replicas. Prices may differ
between replicas (regions do): the first known one is used, in configured order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import litellm

from stageroute_router.core.arm import Arm
from stageroute_router.errors import SettingsError
from stageroute_router.hook.compat import Deployment
from stageroute_router.settings.arms import ArmSettings
from stageroute_router.settings.parsing import parse_arm


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupArms:
    """The arms of one group, and the arm of each of its deployments.

    Args:
        arms: in configured order.
        by_model_id: arm name by LiteLLM's deployment id.
    """

    arms: tuple[Arm, ...]
    by_model_id: Mapping[str, str]

    def replicas(self, deployments: Iterable[Deployment]) -> dict[str, list[Deployment]]:
        """Return the deployments that are of one of the arms, by arm."""
        found: dict[str, list[Deployment]] = {}
        for deployment in deployments:
            arm = self.by_model_id.get(model_id(deployment))
            if arm is not None:
                found.setdefault(arm, []).append(deployment)
        return found

    def deployments(self) -> dict[str, list[str]]:
        """Return the ids of the deployments of each arm."""
        ids: dict[str, list[str]] = {arm.name: [] for arm in self.arms}
        for one, arm in self.by_model_id.items():
            ids.setdefault(arm, []).append(one)
        return ids

    def list_price(self, arm: str, used: Usage) -> float | None:
        """Return what a call comes to by an arm's list prices, in US dollars; None where they are not known.

        For calls that LiteLLM has reported as free although they have a price: some versions do so for the Responses
        API once a text completion was made with the same deployment. A free arm would attract everything.
        """
        priced = next((known for known in self.arms if known.name == arm), None)
        if priced is None or priced.input_usd_per_token is None:
            return None
        prompt = used.prompt_tokens * priced.input_usd_per_token
        return prompt + used.completion_tokens * (priced.output_usd_per_token or 0.0)


class Usage(Protocol):
    """The tokens of a call."""

    @property
    def prompt_tokens(self) -> int:
        """Of the prompt."""

    @property
    def completion_tokens(self) -> int:
        """Of the answer."""


def model_id(deployment: Deployment) -> str:
    """Return LiteLLM's id of a deployment."""
    return str((deployment.get("model_info") or {}).get("id", ""))


def read_arms(
    deployments: Iterable[Deployment],
    group: str,
    *,
    rejected: Callable[[SettingsError], None] | None = None,
) -> GroupArms:
    """Return the arms that a group's deployments form.

    Args:
        deployments: the router's deployments, of any group.
        group: the model group (``model_name``).
        rejected: called with what is wrong with a deployment, which is then left out. Default: raise it.

    Raises:
        SettingsError: a deployment's ``model_info.stageroute`` cannot be used; the message names both.
    """
    settings: dict[str, dict[str, Any]] = {}
    givers: dict[tuple[str, str], str] = {}
    prices: dict[str, list[tuple[float | None, float | None]]] = {}
    rates: dict[str, list[tuple[float | None, float | None]]] = {}
    by_model_id: dict[str, str] = {}
    for deployment in deployments:
        if deployment.get("model_name") != group:
            continue
        name = str((deployment.get("litellm_params") or {}).get("model", ""))
        try:
            given = _given(deployment, group=group)
            name = given.pop("arm", name)
            _agree(given, settings.get(name, {}), givers, arm=name, place=_place(deployment, group))
        except SettingsError as error:
            if rejected is None:
                raise
            rejected(error)
            continue
        settings.setdefault(name, {}).update(given)
        givers.update({(name, key): _place(deployment, group) for key in given})
        prices.setdefault(name, []).append(list_prices(deployment))
        rates.setdefault(name, []).append(rate_limits(deployment))
        by_model_id[model_id(deployment)] = name
    return GroupArms(
        arms=tuple(_arm(name, given, prices[name], rates[name]) for name, given in settings.items()),
        by_model_id=by_model_id,
    )


def list_prices(deployment: Deployment) -> tuple[float | None, float | None]:
    """Return US dollars per prompt token and per completion token, each None where unknown.

    ``model_info`` first, then ``litellm_params``, then LiteLLM's price map. The map is only read: LiteLLM's own
    look-up asks some providers over the network.
    """
    info: Mapping[str, Any] = deployment.get("model_info") or {}
    params: Mapping[str, Any] = deployment.get("litellm_params") or {}
    entry = _price_map_entry(info, params)
    found = [
        next((price for price in (info.get(key), params.get(key), entry.get(key)) if _is_price(price)), None)
        for key in ("input_cost_per_token", "output_cost_per_token")
    ]
    prompt, completion = (None if price is None else float(price) for price in found)
    return prompt, completion


def rate_limits(deployment: Deployment) -> tuple[float | None, float | None]:
    """Return a deployment's requests and tokens per minute, each None where it has no limit.

    LiteLLM's ``rpm`` and ``tpm``: beside ``litellm_params``, inside it, or in ``model_info``, in LiteLLM's order.
    """
    places: list[Mapping[str, Any]] = [
        deployment,
        deployment.get("litellm_params") or {},
        deployment.get("model_info") or {},
    ]
    requests, tokens = (
        next((float(place[key]) for place in places if _is_price(place.get(key))), None)
        for key in ("rpm", "tpm")
    )
    return requests, tokens


def _together(limits: Iterable[float | None]) -> float | None:
    """Return what replicas bear together: no limit as soon as one of them has none."""
    total = 0.0
    for limit in limits:
        if limit is None:
            return None
        total += limit
    return total


def _price_map_entry(info: Mapping[str, Any], params: Mapping[str, Any]) -> Mapping[str, Any]:
    prices: Mapping[str, Mapping[str, Any]] = litellm.model_cost
    for model in (info.get("base_model"), params.get("base_model"), params.get("model")):
        if not isinstance(model, str):
            continue
        entry = prices.get(model)
        if entry is not None:
            return entry
        provider, slash, rest = model.partition("/")
        if not slash:
            provider, rest = str(params.get("custom_llm_provider") or ""), model
            entry = prices.get(f"{provider}/{model}")
        if entry is None:
            entry = prices.get(rest)
        # The same name may belong to another provider, at another price.
        if entry is not None and str(entry.get("litellm_provider", "")).startswith(provider):
            return entry
    return {}


def _is_price(value: object) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value >= 0
    )


def _arm(
    name: str,
    given: Mapping[str, Any],
    prices: Iterable[tuple[float | None, float | None]],
    rates: Iterable[tuple[float | None, float | None]],
) -> Arm:
    requests, tokens = zip(*rates, strict=True)
    known = [pair for pair in prices if pair[0] is not None] or [(None, None)]
    settings = ArmSettings(**given)
    prior, cost = settings.prior_reward, settings.prior_cost_usd
    return Arm(
        name=name,
        max_share=float(settings.max_share),
        requests_per_minute=_together(requests),
        tokens_per_minute=_together(tokens),
        input_usd_per_token=known[0][0],
        output_usd_per_token=known[0][1],
        prior_cost_usd=None if cost is None else float(cost),
        prior_reward=None if prior is None else float(prior),
        # No opinion weighs nothing.
        prior_weight=0.0 if prior is None else float(settings.prior_weight),
        pinned=settings.pinned,
    )


def _given(deployment: Deployment, *, group: str) -> dict[str, Any]:
    """Return what a deployment's ``model_info.stageroute`` sets, by name."""
    given = (deployment.get("model_info") or {}).get("stageroute")
    if given is None:
        return {}
    return parse_arm(given, place=f"{_place(deployment, group)}: model_info.stageroute").given


def _agree(
    given: Mapping[str, Any],
    earlier: Mapping[str, Any],
    givers: Mapping[tuple[str, str], str],
    *,
    arm: str,
    place: str,
) -> None:
    for key, value in given.items():
        if key in earlier and earlier[key] != value:
            msg = (
                f"{place}: model_info.stageroute.{key} is {value!r}, but {givers[arm, key]}, a replica of the same "
                f"arm {arm!r}, says {earlier[key]!r}. Make them equal, or give one of them another arm"
            )
            raise SettingsError(msg)
    if "prior_weight" in given and "prior_reward" not in given and "prior_reward" not in earlier:
        msg = f"{place}: model_info.stageroute.prior_weight needs prior_reward, the opinion that it weighs"
        raise SettingsError(msg)


def _place(deployment: Deployment, group: str) -> str:
    return f"deployment {model_id(deployment)!r} of group {group!r}"
