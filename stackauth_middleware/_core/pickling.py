"""Pickles of configs, middlewares and verifiers: their settings, without caches, connections and locks."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterable, Iterator
from typing import Any

_BY_VALUE = ("cloudpickle", "dill")
"""Packages that pickle functions by their code and not by name, also where another package has a copy of them."""


def check_picklable(config: object, settings: Iterable[str]) -> None:
    """Check that the functions among the settings of `config` can be pickled, to name the setting where one cannot.

    Args:
        config: the config, and not its settings: an error tracker shows the variables of this frame.
        settings: the names of its settings.

    Raises:
        pickle.PicklingError: a function is a lambda, or defined in another function. Where cloudpickle or dill is
            imported, nothing is checked: they can pickle those.
    """
    if any(name.rpartition(".")[2] in _BY_VALUE for name in sys.modules):
        return
    for where, function in _functions(config, settings):
        try:
            pickle.dumps(function)
        except Exception as error:
            raise pickle.PicklingError(
                f"{where} is {function!r}, which cannot be pickled, nor can the config: use a function that is defined "
                "at the top level of a module"
            ) from error


def _functions(config: object, settings: Iterable[str]) -> Iterator[tuple[str, Any]]:
    for name in settings:
        value = getattr(config, name)
        for each in value if isinstance(value, tuple) else [value]:
            if callable(each):
                yield name, each
            elif callable(getattr(each, "check", None)):
                yield f"check of Rule({each.path!r})", each.check


class PickledByConfig:
    """Base class of objects made from a config. Pickles and copies hold all attributes except `_flow` and `_runner`.

    `_connect` makes these two from the config again.
    """

    def _connect(self) -> None:
        """Set `_flow` and `_runner`, as the config owns them. Each subclass implements it."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_flow", "_runner")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._connect()
