"""The folder of one training run, written so that a kill at any moment harms nothing.

``config.yaml``          the resolved configuration: all that is needed to run it again
``checkpoint.pt``        the state after the last whole epoch: tensors and plain values only
``metrics.csv``          one row per epoch, taken from the checkpoint, so that the two never disagree
``run.json``             versions, hardware and wall times, one entry per start
``tensorboard/``         the same curves, where tensorboard is installed
``encoder.safetensors``, ``encoder.yaml``   the result, once the last epoch is done
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import pickle
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
import yaml

from shiftbench.errors import InputError
from shiftbench.provenance import hardware, versions
from shiftbench.records import atomic_path, write_text

CONFIG, CHECKPOINT, METRICS, RECORD = "config.yaml", "checkpoint.pt", "metrics.csv", "run.json"


def create(config: Mapping[str, Any], method: str, data: str) -> Path:
    """Make a new run folder ``<runs>/<date_time>_<method>_<data>_seed<seed>``; never one that exists."""
    label = re.sub(r"[^\w.-]+", "-", f"{method}_{data}_seed{config['seed']}")
    base = Path(config["runs"]) / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{label}"
    base.parent.mkdir(parents=True, exist_ok=True)
    run = base
    for number in itertools.count(2):
        try:
            run.mkdir()
            break
        except FileExistsError:  # another run began in the same second
            run = base.with_name(f"{base.name}_{number}")
    write_text(run / CONFIG, yaml.safe_dump(dict(config), sort_keys=False))
    return run


def read_config(run: Path) -> dict[str, Any]:
    """The configuration of an existing run.

    Raises:
        InputError: this is no run folder.
    """
    try:
        config = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"Cannot resume {str(run)!r}: there is no {CONFIG} in it, so it is not a run folder."
        ) from error
    except yaml.YAMLError as error:
        raise InputError(f"Cannot resume {str(run)!r}: its {CONFIG} is damaged.") from error
    if not isinstance(config, dict):
        raise InputError(f"Cannot resume {str(run)!r}: its {CONFIG} is damaged.")
    return config


def save_checkpoint(run: Path, state: Mapping[str, Any]) -> None:
    """Replace the checkpoint and the metrics, in this order, each atomically."""
    with atomic_path(run / CHECKPOINT) as temporary:
        torch.save(dict(state), temporary)
    write_metrics(run, state["history"])


def read_checkpoint(run: Path) -> dict[str, Any] | None:
    """The state after the last whole epoch, on the CPU; None where no epoch was finished.

    Raises:
        InputError: the file is damaged.
    """
    try:
        return torch.load(run / CHECKPOINT, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{str(run / CHECKPOINT)!r} is damaged. Delete it to start this run from its beginning."
        ) from error


def write_metrics(run: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write ``metrics.csv``: the columns epoch, lr, loss and each term."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(run / METRICS, text.getvalue())


def surroundings(device: torch.device) -> dict[str, Any]:
    """When, with what and on what a start of a run takes place, for ``run.json``."""
    return {
        "started": datetime.now().astimezone().isoformat(timespec="milliseconds"),
        "versions": versions(),
        "hardware": hardware(),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }


def record_start(run: Path, entry: Mapping[str, Any]) -> None:
    """Add one start of this run to ``run.json``, or replace the entry of the same start."""
    path = run / RECORD
    starts = json.loads(path.read_text(encoding="utf-8"))["starts"] if path.is_file() else []
    starts = [known for known in starts if known["started"] != entry["started"]]
    write_text(path, json.dumps({"starts": [*starts, dict(entry)]}, indent=2) + "\n")


class Curves:
    """Writes TensorBoard events where tensorboard is installed, and does nothing where it is not."""

    def __init__(self, run: Path, first_epoch: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._writer = None
        else:
            self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=first_epoch)

    def add(self, row: Mapping[str, float]) -> None:
        """Add one epoch's row of the metrics."""
        if self._writer is not None:
            for name, value in row.items():
                if name != "epoch":
                    self._writer.add_scalar(name, value, row["epoch"])

    def close(self) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()
