"""From flags to hydra's overrides, and from these to a configuration of plain values."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from shiftbench import registry
from shiftbench.errors import InputError, unknown

OWN_DATA = ("folder", "npz")  # data sets whose path the user gives
HYDRA_FLAGS = ("--cfg", "--package", "--config-dir", "--config-path", "--config-name", "--info")


def quoted(text: str) -> str:
    """Quote a value so that hydra takes it literally, whatever characters it holds."""
    escaped = text.replace("\\", "\\\\") if text.endswith("\\") else text
    return "'" + escaped.replace("'", "\\'") + "'"


def named_override(group: str, name: str | None, known: registry.Registry[registry.Entry]) -> list[str]:
    """``--method idfd``, or ``--method package.module:Class``; empty if no name was given."""
    if name is None:
        return []
    if ":" in name:
        return [f"{group}=base", f"+trainer.method.name={quoted(name)}"]
    if name not in known:
        raise unknown(known.kind, name, known)
    return [f"{group}={name}"]


def data_overrides(data: str | None) -> list[str]:
    """``--data cifar10``, or ``--data folder:PATH``."""
    if data is None:
        return []
    name, colon, path = data.partition(":")
    if name not in registry.DATASETS:
        raise unknown("data set", name, registry.DATASETS)
    if name in OWN_DATA and not path:
        raise InputError(f"--data {name} needs a path: --data {name}:PATH.")
    return [f"data={name}"] + ([f"data.path={quoted(path)}"] if colon else [])


def data_of_newest_run(given: argparse.Namespace) -> str | None:
    """The data that the newest run was trained on; used when neither --data nor --checkpoint is given."""
    named = [override for override in given.overrides if override.startswith(("data=", "checkpoint=", "runs="))]
    if given.checkpoint or named or given.hydra_cfg:
        return None
    from shiftbench.encoders.run_folder import trained_on
    from shiftbench.evaluation.plan import newest_run

    run = newest_run(Path("runs"))
    data = trained_on(run)
    if data not in registry.DATASETS or data in OWN_DATA:
        raise InputError(f"The newest run, {run}, was trained on {data}: say with --data what to score it on.")
    return data


def run_hydra(
    name: str, given: argparse.Namespace, overrides: list[str], task: Callable[[dict[str, Any]], None]
) -> None:
    """Compose the configuration and call the task with it as plain values, once or, with -m, for each job."""
    _check_groups(given.overrides)
    words = [*overrides, *given.overrides]
    for flag in HYDRA_FLAGS:
        value = getattr(given, f"hydra_{flag.strip('-')}".replace("-", "_"), None)
        words = [flag, value, *words] if value is not None else words
    words = ["--multirun"] * given.multirun + ["--resolve"] * given.resolve + words

    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    from shiftbench.configs.compose import explained

    caught: list[BaseException] = []

    def job(config: Any) -> None:
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        try:
            task(plain)
        except (InputError, OSError, KeyboardInterrupt) as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise  # hydra names the job that failed, then goes on here
            caught.append(error)

    argv, os.environ["HYDRA_FULL_ERROR"] = sys.argv, "1"  # errors come to us instead of being printed
    sys.argv = ["shiftbench", *words]
    try:
        with explained(name):
            hydra.main(version_base="1.3", config_path="pkg://shiftbench.configs", config_name=name)(job)()
    finally:
        sys.argv = argv
    if caught:
        raise caught[0]


def _check_groups(overrides: Sequence[str]) -> None:
    """Hydra's own message for an unknown option lists a search path; ours names the nearest option."""
    groups = {"method": registry.METHODS, "data": registry.DATASETS, "clustering": registry.CLUSTERERS}
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "recipe" and not (resources.files("shiftbench.configs") / "recipe" / f"{value}.yaml").is_file():
            raise InputError(f"There is no recipe {value!r}; it follows from method and data by itself.")
        for name in value.split(",") if key in groups else []:
            if name not in groups[key] and name != "base":
                raise unknown(groups[key].kind, name, groups[key])
