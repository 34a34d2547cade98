"""Training in one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shiftbench.configs import compose
from shiftbench.trainers.engine import fit


def train(method: str = "concurl", data: str = "digits", overrides: Sequence[str] = ()) -> Path:
    """Train an encoder; what ``shiftbench train`` does.

    Args:
        method: a method that has a file in configs/method.
        data: a data set that has a file in configs/data.
        overrides: further hydra overrides, ``"trainer.epochs=2"``, ``"seed=1"``, ``"resume=runs/..."``.

    Returns:
        The run folder: ``load_encoder`` takes it.

    Raises:
        InputError: see :func:`fit`; or an override that does not exist.

    Examples:
        >>> run = train("simclr", overrides=["trainer.epochs=1", "limit=128"])
        >>> (run / "encoder.safetensors").is_file()
        True
    """
    return fit(compose("train", [f"method={method}", f"data={data}", *overrides]))
