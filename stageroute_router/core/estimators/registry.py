"""Estimators by name: those of this folder, and those of installed packages.

A module of this folder registers its estimator with :func:`register`; that is all it takes. An installed package names
its own in its ``pyproject.toml``::

    [project.entry-points."stageroute_router.estimators"]
    mine = "my_package.estimator:MyEstimator"

What is registered is a factory: it returns an :class:`~stageroute_router.core.estimators.base.Estimator` and takes, by
keyword, those of the group's settings ``gamma`` and ``paced`` that it has use for. Each needs a default, which stands
where the operator set nothing. A class with such fields is a factory.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules
from typing import TypeVar

from stageroute_router.core.estimators.base import Estimator

GROUP = "stageroute_router.estimators"
"""The entry point group that installed packages register their estimators in."""

DEFAULT_ESTIMATOR = "posterior"
"""The estimator of a group that names none: the one that measures best."""

Factory = Callable[..., Estimator]

_F = TypeVar("_F", bound=Factory)

_registered: dict[str, Factory] = {}


def register(name: str) -> Callable[[_F], _F]:
    """Return a decorator that registers a factory of this folder.

    Args:
        name: what operators write as ``estimator``.

    Raises:
        ValueError: another factory has this name.
    """

    def registered(factory: _F) -> _F:
        if name in _registered:
            msg = f"two estimators are named {name!r}: {_registered[name]!r} and {factory!r}; rename one"
            raise ValueError(msg)
        _registered[name] = factory
        return factory

    return registered


def names() -> tuple[str, ...]:
    """Return the names of all estimators, sorted.

    >>> {"paper", "posterior"}.issubset(names())
    True
    """
    return tuple(sorted({*_built_in(), *_installed()}))


def factory_of(name: str) -> Factory:
    """Return the factory of an estimator.

    Args:
        name: what it is registered under. Those of this folder come before installed ones of the same name.

    Raises:
        ValueError: there is no such estimator, or the package that names it cannot be imported.

    >>> factory_of("paper")(gamma=1.0).paced
    False
    """
    found = _built_in().get(name)
    if found is not None:
        return found
    installed = _installed().get(name)
    if installed is None:
        msg = f"must be one of {', '.join(map(repr, names()))}"
        raise ValueError(msg)
    try:
        factory: Factory = installed.load()
    except (ImportError, AttributeError) as error:
        msg = f"cannot be loaded from {installed.value} ({error}); correct the package that registers it"
        raise ValueError(msg) from error
    return factory


def takes(name: str, setting: str) -> bool:
    """Return whether an estimator's factory takes a setting.

    Args:
        name: of a registered estimator.
        setting: ``"gamma"`` or ``"paced"``.

    Raises:
        ValueError: as :func:`factory_of`.

    >>> takes("paper", "gamma"), takes("posterior", "gamma")
    (True, False)
    """
    return setting in inspect.signature(factory_of(name)).parameters


def make(name: str, **settings: float | bool | None) -> Estimator:
    """Return an estimator with a group's settings.

    Args:
        name: of a registered estimator.
        **settings: by name; None, and what the factory does not take, leaves the factory's own default.

    Raises:
        ValueError: as :func:`factory_of`.

    >>> make("posterior", gamma=None, paced=None).paced, make("paper", gamma=None, paced=None).paced
    (True, False)
    """
    given = {key: value for key, value in settings.items() if value is not None and takes(name, key)}
    return factory_of(name)(**given)


@functools.cache
def _built_in() -> dict[str, Factory]:
    """Return what the modules of this folder register, all of them imported."""
    package = __name__.rpartition(".")[0]
    for module in iter_modules(import_module(package).__path__):
        import_module(f"{package}.{module.name}")
    return _registered


def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
