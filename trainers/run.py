"""A training run, new or resumed, from its configuration to the encoder in its folder."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch

from shiftbench.configs import compose
from shiftbench.encoders.run_folder import DESCRIPTION
from shiftbench.runtime import processes
from shiftbench.runtime.console import progress, say
from shiftbench.trainers import run_files
from shiftbench.trainers.average import encoder_state
from shiftbench.trainers.distributed import join
from shiftbench.trainers.engine import Trainer
from shiftbench.trainers.health import enough_memory
from shiftbench.trainers.options import check_config


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


def fit(config: Mapping[str, Any]) -> Path:
    """Train an encoder, or go on with a run that was stopped.

    No label is used, and the encoder of the last epoch is saved, unless ``trainer.select=oracle`` is set. A resumed run
    ends, on a CPU with the same number of threads, with the same weights as one that was never stopped. Started by
    ``torchrun``, the processes share each batch, and the first one writes.

    Args:
        config: as ``compose("train")`` gives it. Where ``resume`` names a run folder, that run's own
            configuration replaces the rest.

    Returns:
        The run folder.

    Raises:
        InputError: the configuration cannot be trained, the loss is no longer a number, the memory ran out, or the
            features collapsed and ``trainer.collapse=stop``; the folder then keeps the last checkpoint.
    """
    run = Path(config["resume"]) if config.get("resume") else None
    if run is not None:
        config = run_files.read_config(run)
        if (run / DESCRIPTION).is_file():
            if not processes.rank():
                say(f"{run} is already finished; nothing is left to train.")
            return run
    check_config(config)
    device = join(config["device"])
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        trainer = Trainer(config, device)
        if run is None:
            new = None if processes.rank() else run_files.create(config, trainer.name, trainer.data.name)
            run = cast(Path, processes.broadcast(new))
        else:
            with enough_memory(trainer.options, device):
                trainer.load(run_files.read_checkpoint(run))
            if trainer.history and not processes.rank():
                run_files.write_metrics(run, trainer.history)  # a kill may have come between the two files
        if len(trainer.history) < trainer.options.epochs:
            with _threads(trainer.options.threads), enough_memory(trainer.options, device):
                _train(trainer, run)
    if not processes.rank():
        trainer.save_encoder(run)
    processes.leave()
    return run


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(trainer: Trainer, run: Path) -> None:
    name, options, done = trainer.name, trainer.options, len(trainer.history)
    total, saved = options.epochs, done
    say(f"Training {name} on {trainer.data.name}, {len(trainer.images):,} images, epochs {done + 1}-{total}: {run}")
    record = run_files.surroundings(trainer.device)
    record |= {"data": trainer.data.fingerprint, "first_epoch": done + 1, "processes": processes.world()}
    curves = None
    if not processes.rank():  # the process that writes
        run_files.record_start(run, record)
        curves = run_files.Curves(run, done + 1)
    started = time.perf_counter()
    try:
        with progress(name, total * trainer.steps_per_epoch, done * trainer.steps_per_epoch) as advance:
            while len(trainer.history) < total:
                trainer.epoch(advance)
                epoch = len(trainer.history)
                if curves is not None:
                    if trainer.is_best:
                        with trainer.averaged():
                            run_files.save_best(run, encoder_state(trainer.method))
                    if epoch % options.checkpoint_every == 0 or epoch == total:
                        run_files.save_checkpoint(run, trainer.state(), options.keep)
                        saved = epoch
                    curves.add(trainer.history[-1])
                trainer.check_health()
    except KeyboardInterrupt:
        say(f"Stopped with {saved} of {total} epochs saved. Go on with: shiftbench train resume={run}")
        raise
    finally:
        if curves is not None:
            curves.close()
            seconds = time.perf_counter() - started
            rate = (len(trainer.history) - done) * len(trainer.images) / seconds
            record |= {"last_epoch": saved, "seconds": round(seconds, 1), "images_per_second": round(rate, 1)}
            run_files.record_start(run, record)
