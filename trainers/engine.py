"""The training loop: one for all methods. It knows epochs, batches, views, steps and checkpoints, and no loss."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from shiftbench.data.base import load_dataset
from shiftbench.data.division import limited
from shiftbench.encoders.backbones import Head
from shiftbench.encoders.preprocess import Preprocess
from shiftbench.encoders.run_folder import DESCRIPTION, save_encoder
from shiftbench.errors import InputError
from shiftbench.images import evenly
from shiftbench.runtime import processes
from shiftbench.runtime.console import progress, say
from shiftbench.trainers import run as run_folder
from shiftbench.trainers.augment import Augmentation, Draws
from shiftbench.trainers.average import WeightAverage, encoder_state
from shiftbench.trainers.build import build_method, build_optimizer
from shiftbench.trainers.distributed import average_gradients, join
from shiftbench.trainers.feed import batches, resident, steps
from shiftbench.trainers.health import PROBE, Terms, collapse, enough_memory, signs
from shiftbench.trainers.monitor import Monitor
from shiftbench.trainers.options import Options, bind, check_config

REFRESH_S = 0.5  # how often the losses are brought to the host, checked and shown within an epoch


def fit(config: Mapping[str, Any]) -> Path:
    """Train an encoder, or go on with a run that was stopped.

    No label is used, unless ``trainer.select=oracle`` asks for it. The encoder saved is the last epoch's. A resumed
    run ends, on a CPU with the same number of threads, with the same weights as one that was never stopped. Started by
    ``torchrun``, the processes share each batch, and the first one writes.

    Args:
        config: as ``compose("train")`` gives it. Where ``resume`` names a run folder, that run's own
            configuration replaces the rest.

    Returns:
        The run folder.

    Raises:
        InputError: the configuration cannot be trained, the loss is no longer a number, the memory ended, or the
            features collapsed and ``trainer.collapse=stop``; the folder then keeps the last checkpoint.
    """
    run = Path(config["resume"]) if config.get("resume") else None
    if run is not None:
        config = run_folder.read_config(run)
        if (run / DESCRIPTION).is_file():
            if not processes.rank():
                say(f"{run} is already finished; nothing is left to train.")
            return run
    check_config(config)
    device = join(config["device"])
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        trainer = Trainer(config, device)
        if run is None:
            new = None if processes.rank() else run_folder.create(config, trainer.name, trainer.data.name)
            run = cast(Path, processes.broadcast(new))
        else:
            with enough_memory(trainer.options, device):
                trainer.load(run_folder.read_checkpoint(run))
            if trainer.history and not processes.rank():
                run_folder.write_metrics(run, trainer.history)  # a kill may have come between the two files
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
    total, saved, writes = options.epochs, done, not processes.rank()
    say(f"Training {name} on {trainer.data.name}, {len(trainer.images):,} images, epochs {done + 1}-{total}: {run}")
    record = run_folder.surroundings(trainer.device)
    record |= {"data": trainer.data.fingerprint, "first_epoch": done + 1, "processes": processes.world()}
    curves = None
    if writes:
        run_folder.record_start(run, record)
        curves = run_folder.Curves(run, done + 1)
    started = time.perf_counter()
    try:
        with progress(name, total * trainer.steps, done * trainer.steps) as advance:
            while len(trainer.history) < total:
                trainer.epoch(advance)
                epoch = len(trainer.history)
                if curves is not None:
                    if trainer.best:
                        with trainer.averaged():
                            run_folder.save_best(run, encoder_state(trainer.method))
                    if epoch % options.checkpoint_every == 0 or epoch == total:
                        run_folder.save_checkpoint(run, trainer.state(), options.keep)
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
            run_folder.record_start(run, record)


class Trainer:
    """What an epoch needs, built from a configuration.

    All randomness is a function of the seed, and within an epoch of the seed and the epoch's number. So the
    state after an epoch is the method's parameters and buffers, those of the optimiser, the loss scale and the weight
    average, and nothing else.

    Args:
        config: as ``compose("train")`` gives it; ``runs`` and ``resume`` are not used here.
        device: of this process; None = the one that the configuration names.

    Raises:
        InputError: a name, an option, or its combination with the data that cannot be trained.
    """

    def __init__(self, config: Mapping[str, Any], device: torch.device | None = None) -> None:
        self.seed = config["seed"]
        self.device = device or join(config["device"])
        self.options = options = Options(**bind(Options, config["trainer"], "trainer"))
        self.augment = Augmentation(**bind(Augmentation, options.augmentation, "trainer.augmentation"))
        data = load_dataset(**config["data"])
        self.data = replace(data, train=limited(data.train, config["limit"]))
        self.k = options.k or len(self.data.classes)
        self.monitor = Monitor(self.data.train.labels, self.k, self.seed) if options.monitor else None
        torch.manual_seed(self.seed)
        with enough_memory(options, self.device):
            self.images = resident(self.data.train.images, self.device)
            self.method = build_method(options, self.data, self.k, self.augment.size, self.device)
            self.average = WeightAverage(self.method, options.ema) if options.ema else None
        if any(view >= self.method.views for view in self.augment.clean):
            raise InputError(
                f"trainer.augmentation.clean={list(self.augment.clean)}: {self.name} has {self.method.views} views, "
                "counted from 0."
            )
        self.size = self.augment.size or self.images.shape[-1]
        self.shares = steps(len(self.images), options.batch, processes.world(), options.drop_last)
        self.normalise = Preprocess(options.mean, options.std).to(self.device)
        self.optimizer = build_optimizer(options, self.method)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.precision == "float16")
        self.probe = evenly(self.data.train.images, PROBE)
        self.history: list[dict[str, float | None]] = []

    @property
    def name(self) -> str:
        """What tables call the encoder."""
        return str(self.options.method["name"])

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return len(self.shares)

    @property
    def best(self) -> bool:
        """Whether the last epoch is the one that the oracle would choose so far."""
        scores = [row.get("monitor_acc") for row in self.history]
        known = [score for score in scores if score is not None]
        return self.options.select == "oracle" and scores[-1] is not None and scores[-1] > max(known[:-1], default=-1)

    def epoch(self, watch: Callable[[int, str], None]) -> None:
        """Train one epoch and add its row to the history.

        A row holds epoch, lr, loss, the means over the images of each term and each diagnostic of the method, and at
        the first process what :func:`signs` and :class:`Monitor` see.

        Args:
            watch: called now and then with the number of steps done since and a text about them.

        Raises:
            InputError: a loss term or a weight is no longer a finite number.
        """
        number = len(self.history) + 1
        lr = self.options.learning_rate(number - 1)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        order, draws = self._reseed(number)
        self.method.train()
        with torch.no_grad():
            self.method.before_epoch(number - 1, self.options.epochs, self.unchanged)
        terms = Terms(f"epoch {number}", self._advice)
        asides = Terms(f"epoch {number}", self._advice)
        started = shown = time.perf_counter()
        told = seen = 0
        for step, (index, pixels) in enumerate(self._shuffled(order), 1):
            self.method.progress = (number - 1 + (step - 1) / self.steps) / self.options.epochs
            draws.count = len(index) * processes.world()
            draws.rows = slice(len(index) * processes.rank(), len(index) * (processes.rank() + 1))
            terms.add(self._step(index, pixels, draws), draws.count)
            if self.method.diagnostics:
                asides.add(self.method.diagnostics, draws.count)
            seen += draws.count
            now = time.perf_counter()
            if now - shown > REFRESH_S or step == self.steps:
                text = terms.collect()
                watch(step - told, f"epoch {number} {text} {seen / (now - started):,.0f} images/s")
                shown, told = now, step
        means = terms.means()
        self._check_weights(number)
        row: dict[str, float | None] = {"epoch": number, "lr": lr, "loss": sum(means.values()), **means}
        if self.method.diagnostics:
            asides.collect()
            row |= asides.means()
        self.history.append(row if processes.rank() else row | self._look(number))

    def unchanged(self, rows: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        """Training images as they are, in batches, normalised: all in their order, or those at int64 ``rows``."""
        order = torch.arange(len(self.images)) if rows is None else rows
        for _, pixels in batches(self.images, order, self.options.batch, self.device, self.options.workers):
            yield self._normalised(self.augment.unchanged(pixels))

    def averaged(self) -> Any:
        """A context in which the method has the weights that are saved."""
        return self.average.applied() if self.average else nullcontext()

    def check_health(self) -> None:
        """Warn of a collapse when it has lasted, and stop if that is asked for.

        Raises:
            InputError: ``trainer.collapse=stop``, and it has.
        """
        found = collapse(self.history, self.k)
        if not found:
            return
        text = f"Collapsed by epoch {len(self.history)}: {found}. Try a lower trainer.lr, a larger trainer.batch, "
        text += "or other weights of the terms in trainer.method."
        if self.options.collapse == "stop":
            raise InputError(f"{text} trainer.collapse=warn goes on regardless.")
        if not collapse(self.history[:-1], self.k):
            say(text)

    def state(self) -> dict[str, Any]:
        """The state after an epoch: tensors and plain values."""
        return {
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else {},
            "history": self.history,
            "data": self.data.fingerprint,
        }

    def load(self, state: Mapping[str, Any] | None) -> None:
        """Go back to a saved state; None is the beginning.

        Raises:
            InputError: it was trained on other data, or is of another method.
        """
        if state is None:
            return
        if state["data"] != self.data.fingerprint:
            raise InputError(
                f"The run to resume was trained on other images than {self.data.name!r} holds now; its memory of each "
                "image would not fit. Restore the data or start a new run."
            )
        try:
            self.method.load_state_dict(state["method"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            if self.average:
                self.average.load_state_dict(state["average"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError(f"The checkpoint does not fit its config.yaml: {' '.join(str(error).split())}") from error
        self.history = list(state["history"])

    def save_encoder(self, run: Path) -> None:
        """Write the encoder: as it is now, or with ``trainer.select=oracle`` as it was after its best epoch."""
        train = {
            "method": self.name,
            "seed": self.seed,
            "data": self.data.name,
            "data_fingerprint": self.data.fingerprint,
            "epochs": len(self.history),
            "selection": self.options.select,
            "weights": "average" if self.average else "trained",
            "k": self.k,
        }
        chosen: Any = self.averaged()
        if self.options.select == "oracle":
            self.method.load_state_dict(run_folder.read_best(run), strict=False)
            train["epoch"] = max(self.history, key=lambda row: row["monitor_acc"] or -1)["epoch"]
            chosen = nullcontext()
        with chosen:
            save_encoder(
                run,
                name=self.name,
                backbone_name=self.options.backbone,
                backbone=self.method.backbone,
                heads=cast(dict[str, Head], dict(self.method.heads)),
                mean=self.options.mean,
                std=self.options.std,
                size=self.size,
                train=train,
            )

    def _reseed(self, epoch: int) -> tuple[torch.Tensor, Draws]:
        """The order of the images, int64 (N,), and the source of their views; the same in all processes."""
        digest = hashlib.sha256(f"{self.seed}/{epoch}".encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:7], "big"))  # what a method draws
        draws = Draws.seeded(int.from_bytes(digest[7:14], "big"), self.options.batch, self.device)
        return torch.randperm(len(self.images), generator=draws.orders), draws

    def _shuffled(self, order: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """This process's share of each step: which images, int64 (B,), and their pixels, uint8 (B, 3, H, W)."""
        starts = [(start + share * processes.rank(), share) for start, share in self.shares]
        mine = torch.cat([order[start : start + share] for start, share in starts])
        return batches(self.images, mine, self.shares[0][1], self.device, self.options.workers)

    def _step(self, index: torch.Tensor, pixels: torch.Tensor, draws: Draws) -> dict[str, torch.Tensor]:
        views = [self._normalised(self.augment(pixels, view, draws)) for view in range(self.method.views)]
        with torch.no_grad():
            self.method.before_step()
        terms = self.method.losses(views, index)
        self.optimizer.zero_grad()
        self.scaler.scale(torch.stack(list(terms.values())).sum()).backward()
        average_gradients(self.method.parameters())
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with torch.no_grad():
            self.method.complete()
            self.method.after_step()
        if self.average:
            self.average.update()
        return terms

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.normalise(pixels).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _look(self, epoch: int) -> dict[str, float | None]:
        """What the weights that would be saved make of some training images: signs of collapse, scores with labels."""
        found: dict[str, float | None] = {}
        self.method.eval()
        with self.averaged():
            if self.options.collapse != "ignore":
                hidden = self.method.encode(self._normalised(self.augment.unchanged(self.probe.to(self.device))))
                cluster = self.method.heads["cluster"](hidden) if "cluster" in self.method.heads else None
                found |= signs(self._default(hidden), cluster)
            if self.monitor is not None:
                found |= dict.fromkeys(("monitor_acc", "monitor_knn"))
                if epoch % self.options.monitor_every == 0 or epoch == self.options.epochs:
                    parts = self.unchanged(torch.from_numpy(self.monitor.rows))
                    found |= self.monitor.scores(torch.cat([self._default(self.method.encode(part)) for part in parts]))
        return found

    def _default(self, hidden: torch.Tensor) -> torch.Tensor:
        """The encoder's default feature: of the first head, without heads the backbone's."""
        heads: list[nn.Module] = list(self.method.heads.values())
        return heads[0](hidden) if heads else hidden

    def _check_weights(self, epoch: int) -> None:
        tensors = [value for value in self.method.state_dict().values() if value.is_floating_point()]
        if not torch.stack([value.isfinite().all() for value in tensors]).all():
            raise InputError(f"The weights are no longer finite numbers after epoch {epoch}. {self._advice}")

    @property
    def _advice(self) -> str:
        return (
            f"The run folder keeps the last checkpoint before. Try a lower trainer.lr (now {self.options.lr}), some "
            f"trainer.warmup (now {self.options.warmup}), or trainer.precision=float32 (now {self.options.precision})."
        )
