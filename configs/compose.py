"""The configuration files, and how they are composed outside the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from shiftbench.errors import InputError, unknown


def compose(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose a configuration as the command line does.

    Args:
        name: the primary file without its suffix ("train").
        overrides: hydra overrides, ``"trainer.epochs=2"``.

    Returns:
        Plain nested dicts and lists, interpolations resolved.

    Raises:
        InputError: an override does not parse, names something that does not exist, or a needed value is
            missing.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    outer, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None  # the caller may be a hydra program
    try:
        with explained(name), hydra.initialize_config_module("shiftbench.configs", version_base="1.3"):
            config = hydra.compose(name, overrides=list(overrides))
            return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[return-value]
    finally:
        GlobalHydra.instance().hydra = outer


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn what hydra and OmegaConf raise inside into an :class:`InputError` of one line.

    Args:
        name: the primary file that is composed.
    """
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    try:
        yield
    except MissingConfigException as error:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        raise unknown(group or "configuration", choice, error.options or ()) from error
    except MissingMandatoryValue as error:
        raise InputError(f"{error.full_key} has no default: give {error.full_key}=VALUE.") from error
    except (HydraException, OmegaConfBaseException) as error:
        message = " ".join(str(error).split())
        if missing := re.match(r"Could not override '([^']+)'", message):
            message = f"There is no option {missing[1]!r}: `shiftbench {name} --cfg job` lists them all."
        raise InputError(message) from error
