"""What tests of training ask about a run folder, and ways to stop a run."""

import csv
import itertools
from pathlib import Path

import pytest

from shiftbench.trainers import fit
from shiftbench.trainers.engine import Trainer

KEPT = ("config.yaml", "metrics.csv", "encoder.safetensors", "encoder.yaml")


def kept(run: Path) -> dict[str, bytes]:
    """What two equal runs have in common, byte for byte."""
    return {name: (run / name).read_bytes() for name in KEPT}


def weights(run: Path) -> bytes:
    return (run / "encoder.safetensors").read_bytes()


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def stop_after(monkeypatch: pytest.MonkeyPatch, epochs: int, error: BaseException) -> None:
    """The epoch after these raises, in its second step."""
    calls = itertools.count()
    step = Trainer._step

    def interrupted(trainer, *arguments):
        if next(calls) == epochs * trainer.steps_per_epoch + 1:
            raise error
        return step(trainer, *arguments)

    monkeypatch.setattr(Trainer, "_step", interrupted)


class Killed(BaseException):
    """As little as possible happens after it, as with a killed process."""


def stopped_run(config, monkeypatch, epochs: int) -> Path:
    with monkeypatch.context() as patch:
        stop_after(patch, epochs, Killed())
        with pytest.raises(Killed):
            fit(config)
    return sorted(Path(config["runs"]).iterdir())[-1]
