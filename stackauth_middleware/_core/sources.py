"""Where settings come from: keywords win over the environment, and the environment over the TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import environment
from .environment import TypedSettings
from .settings import OWN


def with_defaults(settings: TypedSettings, keywords: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return `keywords` and, from the environment and the file, the settings that are not among them.

    Args:
        settings: all settings.
        keywords: what the caller gives. An empty value of a setting that has the provider's variables counts as not
            given, as in ``project_id=os.environ.get("X", "")``.
        path: the file; "" for the one that the environment names, if it does.

    Raises:
        ConfigError: a name in the environment or in the file is unknown, or a value is of another type than the
            setting.
    """
    given = {
        name: value
        for name, value in keywords.items()
        if value or name not in settings or settings[name].field.metadata["prefixes"] == OWN
    }
    label = "from_file" if path else environment.CONFIG
    path = path or environment.config_path()
    in_file: dict[str, Any] = {}
    if path:
        from . import config_file

        in_file.update(config_file.from_file(path, settings, label))
    missing = {name: each for name, each in settings.items() if name not in given}
    in_environment = environment.from_environment(missing)
    environment.reject_unknown(settings, {*in_file, *in_environment, *given})
    return {**keywords, **in_file, **in_environment, **given}
