"""Let anything that calls ``litellm`` by a model's name be routed: a provider called ``stageroute``.

The one-line change, once at start; then ``model="stageroute/chat"`` wherever a model is named::

    register(router)

``stageroute/chat`` asks ``router`` for its model group ``chat``, in sync, async and streaming calls of ``litellm``
itself and of every framework on top of it. Rewards by the answer, its ``id`` or its call id work as ever.

LiteLLM logs such a call twice: once for the group (cost 0, provider ``stageroute``) and once for the deployment that
served, which is the one with the cost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import litellm
from litellm.llms.custom_llm import CustomLLM
from litellm.router import Router
from litellm.types.utils import LlmProviders

from stageroute_router.errors import SettingsError
from stageroute_router.hook.compat import LiteLLMCompat

PROVIDER = "stageroute"
"""What stands before the slash in a model's name, unless :func:`register` is told otherwise."""

# What LiteLLM adds on the way to a provider, or takes from the deployment: the router's own business.
_NOT_PASSED_ON = ("stream", "extra_body", "model", "messages", "custom_llm_provider")


def register(router: Router, *, provider: str = PROVIDER) -> None:
    """Make ``litellm.completion(model="stageroute/<group>")`` and its siblings ask a router.

    Registering again under the same name puts the new router in the old one's place.

    Args:
        router: a :class:`~stageroute_router.StageRouteRouter`, or one that
            :func:`~stageroute_router.attach` was used on.
        provider: what stands before the slash; another name for a second router.

    Raises:
        SettingsError: the name cannot be used.

    >>> register(router)
    >>> asked = [{"role": "user", "content": "hello"}]
    >>> litellm.completion(model="stageroute/chat", messages=asked).choices[0].message.role
    'assistant'
    """
    if not provider or "/" in provider:
        msg = f"provider = {provider!r}: must be a name without a slash, such as {PROVIDER!r}"
        raise SettingsError(msg)
    if provider in {known.value for known in LlmProviders}:
        msg = f"provider = {provider!r} is one of LiteLLM's own; choose another name"
        raise SettingsError(msg)
    others = [entry for entry in litellm.custom_provider_map if entry["provider"] != provider]
    litellm.custom_provider_map = [*others, {"provider": provider, "custom_handler": RoutedProvider(router)}]
    litellm.utils.custom_llm_setup()  # type: ignore[no-untyped-call]
    groups = sorted({str(deployment.get("model_name")) for deployment in LiteLLMCompat(router).deployments()})
    # Frameworks ask LiteLLM what a model can do; what the deployments cannot, they say when they are called.
    litellm.register_model(
        {
            f"{provider}/{group}": {
                "litellm_provider": provider,
                "mode": "chat",
                "input_cost_per_token": 0.0,
                "output_cost_per_token": 0.0,
                "supports_function_calling": True,
                "supports_tool_choice": True,
                "supports_response_schema": True,
                "supports_system_messages": True,
                "supports_vision": True,
            }
            for group in groups
        }
    )


class RoutedProvider(CustomLLM):
    """LiteLLM's view of a router as one more provider.

    Args:
        router: the router that answers.
    """

    def __init__(self, router: Router) -> None:
        super().__init__()
        self._router: Any = router

    def completion(self, *_: Any, **given: Any) -> Any:  # noqa: ANN401 - LiteLLM's signature
        """Answer a synchronous call."""
        return self._made(self._router.completion(**_arguments(given)), given)

    async def acompletion(self, *_: Any, **given: Any) -> Any:  # noqa: ANN401
        """Answer an asynchronous call."""
        return self._made(await self._router.acompletion(**_arguments(given)), given)

    def streaming(self, *_: Any, **given: Any) -> Iterator[Any]:  # noqa: ANN401
        """Answer a synchronous call part by part."""
        yield from self._made(self._router.completion(stream=True, **_arguments(given)), given, stream=True)

    # LiteLLM declares a coroutine here and uses a generator.
    async def astreaming(self, *_: Any, **given: Any) -> AsyncIterator[Any]:  # type: ignore[override] # noqa: ANN401
        """Answer an asynchronous call part by part."""
        made = self._made(
            await self._router.acompletion(stream=True, **_arguments(given)), given, stream=True
        )
        async for chunk in made:
            yield chunk

    def embedding(self, *_: Any, **given: Any) -> Any:  # noqa: ANN401
        """Answer a synchronous request for embeddings."""
        return self._router.embedding(**_embedding_arguments(given))

    async def aembedding(self, *_: Any, **given: Any) -> Any:  # noqa: ANN401
        """Answer an asynchronous request for embeddings."""
        return await self._router.aembedding(**_embedding_arguments(given))

    def _made(self, response: Any, given: Mapping[str, Any], *, stream: bool = False) -> Any:  # noqa: ANN401
        """Return an answer after making its call known by the id that LiteLLM gives the call around it."""
        outer = getattr(given.get("logging_obj"), "litellm_call_id", None)
        control = getattr(self._router, "stageroute", None)
        if isinstance(outer, str) and control is not None:
            control.strategy.add_alias(outer, response=response)
            if not stream:
                control.strategy.on_response(
                    response
                )  # LiteLLM reports it in a moment, the application may not wait
        return response


def _arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the application asked for, out of everything that LiteLLM hands to a provider."""
    asked = {
        name: value
        for name, value in (given.get("optional_params") or {}).items()
        if name not in _NOT_PASSED_ON
    }
    asked.update(_metadata(given))
    if given.get("timeout") is not None:
        asked["timeout"] = given["timeout"]
    return {"model": _group(given), "messages": given["messages"], **asked}


def _embedding_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    asked = {
        name: value
        for name, value in (given.get("optional_params") or {}).items()
        if name not in _NOT_PASSED_ON
    }
    return {"model": _group(given), "input": given["input"], **asked, **_metadata(given)}


def _metadata(given: Mapping[str, Any]) -> dict[str, Any]:
    metadata = (given.get("litellm_params") or {}).get("metadata")
    # A copy: the router writes its own notes there, and the outer call's must stay.
    return {"metadata": dict(metadata)} if isinstance(metadata, Mapping) else {}


def _group(given: Mapping[str, Any]) -> str:
    return str(given["model"]).rpartition("/")[2]
