"""The files of a training run, written so that a kill at any moment does no harm.

``config.yaml``          the resolved configuration: all that is needed to run it again
``checkpoint.pt``        the state after the last whole epoch: tensors and plain values only
``checkpoint-12.pt``     that of epoch 12: as many as ``trainer.keep`` says; the newest is checkpoint.pt itself
``best.pt``              the encoder after its best epoch, only with ``trainer.select=oracle``
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
import os
import pickle
import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
import yaml

from shiftbench.errors import InputError
from shiftbench.records import atomic_path, write_text
from shiftbench.runtime.provenance import hardware, versions

CONFIG, CHECKPOINT, BEST, METRICS, RECORD = "config.yaml", "checkpoint.pt", "best.pt", "metrics.csv", "run.json"


def create(config: Mapping[str, Any], method: str, data: str) -> Path:
    """Make a new run folder ``<runs>/<date_time>_<method>_<data>_seed<seed>``, under a name that is not taken yet."""
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


def save_checkpoint(run: Path, state: Mapping[str, Any], keep: int = 1) -> None:
    """Replace the checkpoint and the metrics, in this order, each atomically.

    Args:
        run: the run folder.
        state: what :meth:`Trainer.state` gives.
        keep: how many checkpoints remain, this one included.
    """
    _save(run / CHECKPOINT, state)
    write_metrics(run, state["history"])
    if keep > 1:
        _copy(run / CHECKPOINT, run / f"checkpoint-{len(state['history'])}.pt")
        for number in sorted(_kept(run))[:-keep]:
            (run / f"checkpoint-{number}.pt").unlink()


def _kept(run: Path) -> list[int]:
    names = (re.fullmatch(r"checkpoint-(\d+)\.pt", path.name) for path in run.iterdir())
    return [int(name[1]) for name in names if name]


def _copy(file: Path, target: Path) -> None:
    """A hard link to a file that is replaced, never written to; a copy where the file system has no hard links."""
    target.unlink(missing_ok=True)
    try:
        os.link(file, target)
    except OSError:
        with atomic_path(target) as temporary:
            shutil.copyfile(file, temporary)


def save_best(run: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Replace the encoder of the best epoch, atomically."""
    _save(run / BEST, state)


def _save(path: Path, state: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary:
        torch.save(dict(state), temporary)


def read_checkpoint(run: Path) -> dict[str, Any] | None:
    """The state after the last whole epoch, on the CPU; None where no epoch was finished.

    Raises:
        InputError: the file is damaged.
    """
    if not (run / CHECKPOINT).exists():
        return None
    older = sorted(_kept(run))[:-1]
    advice = "Delete it to start this run from its beginning."
    if older:
        advice = f"Put checkpoint-{older[-1]}.pt in its place to go on from epoch {older[-1]}."
    return _read(run / CHECKPOINT, advice)


def read_best(run: Path) -> dict[str, Any]:
    """The encoder of the best epoch, on the CPU.

    Raises:
        InputError: the file is damaged.
    """
    return _read(run / BEST, "Train again, or give trainer.select=last to a new run.")


def _read(path: Path, advice: str) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise InputError(f"{str(path)!r} is damaged. {advice}") from error


def write_metrics(run: Path, history: Sequence[Mapping[str, float | None]]) -> None:
    """Write ``metrics.csv``: epoch, lr, loss, each term, each diagnostic, ``probe_*`` and, if asked for, ``monitor_*``."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(run / METRICS, text.getvalue())


def surroundings(device: torch.device) -> dict[str, Any]:
    """Time, versions, hardware and threads of a start of the run, for ``run.json``."""
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

    def add(self, row: Mapping[str, float | None]) -> None:
        """Add one epoch's row of the metrics."""
        if self._writer is not None:
            for name, value in row.items():
                if name != "epoch" and value is not None:
                    self._writer.add_scalar(name, value, row["epoch"])

    def close(self) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()
