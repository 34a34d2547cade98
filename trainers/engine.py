"""The training loop: one for all methods. It knows epochs, batches, views, steps and checkpoints, and no loss."""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch

from shiftbench.console import progress, say
from shiftbench.data import load_dataset
from shiftbench.encoders.backbones import Head, build_backbone
from shiftbench.encoders.base import Preprocess, pick_device
from shiftbench.encoders.run_folder import DESCRIPTION, save_encoder
from shiftbench.errors import InputError, unknown
from shiftbench.registry import METHODS
from shiftbench.trainers import run as run_folder
from shiftbench.trainers.augment import Augmentation
from shiftbench.trainers.base import Method
from shiftbench.trainers.options import PRECISIONS, Options, bind

KEYS = ("seed", "device", "runs", "resume", "data", "trainer")
REFRESH_S = 0.5  # how often the losses are brought to the host, checked and shown within an epoch


def fit(config: Mapping[str, Any]) -> Path:
    """Train an encoder, or go on with a run that was stopped.

    No label is used. The encoder saved is the last epoch's. A resumed run ends, on a CPU with the same number
    of threads, with the same weights as one that was never stopped.

    Args:
        config: as ``compose("train")`` gives it. Where ``resume`` names a run folder, that run's own
            configuration replaces the rest.

    Returns:
        The run folder.

    Raises:
        InputError: the configuration cannot be trained, or the loss is no longer a number; the folder then
            keeps the state after the last whole epoch.
    """
    run = Path(config["resume"]) if config.get("resume") else None
    if run is not None:
        config = run_folder.read_config(run)
        if (run / DESCRIPTION).is_file():
            say(f"{run} is already finished; nothing is left to train.")
            return run
    _check_keys(config)
    device = pick_device(config["device"])
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        trainer = Trainer(config)
        if run is None:
            run = run_folder.create(config, trainer.name, trainer.data.name)
        else:
            trainer.load(run_folder.read_checkpoint(run))
            if trainer.history:
                run_folder.write_metrics(run, trainer.history)  # a kill may have come between the two files
        if len(trainer.history) < trainer.options.epochs:
            with _threads(trainer.options.threads):
                _train(trainer, run)
    trainer.save_encoder(run)
    return run


def _check_keys(config: Mapping[str, Any]) -> None:
    for key in config:
        if key not in KEYS:
            raise unknown("option", key, KEYS)
    for key in KEYS:
        if key not in config:
            raise InputError(f"The configuration lacks {key!r}; shiftbench.configs.compose('train') gives a whole one.")


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(trainer: Trainer, run: Path) -> None:
    name, total, done = trainer.name, trainer.options.epochs, len(trainer.history)
    saved = done
    say(f"Training {name} on {trainer.data.name}, {len(trainer.images):,} images, epochs {done + 1}-{total}: {run}")
    record = run_folder.surroundings(trainer.device)
    record |= {"data": trainer.data.fingerprint, "first_epoch": done + 1}
    run_folder.record_start(run, record)
    curves = run_folder.Curves(run, done + 1)
    started = time.perf_counter()
    try:
        with progress(name, total * trainer.steps, done * trainer.steps) as advance:
            while len(trainer.history) < total:
                trainer.epoch(advance)
                run_folder.save_checkpoint(run, trainer.state())
                saved = len(trainer.history)
                curves.add(trainer.history[-1])
    except KeyboardInterrupt:
        say(f"Stopped with {saved} of {total} epochs saved. Go on with: shiftbench train resume={run}")
        raise
    finally:
        curves.close()
        seconds = time.perf_counter() - started
        rate = (saved - done) * len(trainer.images) / seconds
        record |= {"last_epoch": saved, "seconds": round(seconds, 1), "images_per_second": round(rate, 1)}
        run_folder.record_start(run, record)


class Trainer:
    """What an epoch needs, built from a configuration.

    All randomness is a function of the seed, and within an epoch of the seed and the epoch's number. So the
    state after an epoch is the method's parameters and buffers, the optimiser's state, and nothing else.

    Args:
        config: as ``compose("train")`` gives it; ``runs`` and ``resume`` are not used here.

    Raises:
        InputError: a name, an option, or its combination with the data that cannot be trained.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.seed = config["seed"]
        if not isinstance(self.seed, int) or self.seed < 0:
            raise InputError(f"seed={self.seed!r} must be a whole number, at least 0.")
        self.device = pick_device(config["device"])
        self.options = Options(**bind(Options, config["trainer"], "trainer"))
        self.augment = Augmentation(**bind(Augmentation, self.options.augmentation, "trainer.augmentation"))
        self.data = load_dataset(**config["data"])
        self.images = self.data.train.images.to(self.device)
        self.k = self.options.k or len(self.data.classes)
        torch.manual_seed(self.seed)
        self.method = self._build().to(self.device).to(memory_format=torch.channels_last)
        self.method.precision = PRECISIONS[self.options.precision]
        self.normalise = Preprocess(self.options.mean, self.options.std).to(self.device)
        self.optimizer = _optimizer(self.options, self.method)
        self.history: list[dict[str, float]] = []

    @property
    def name(self) -> str:
        """What tables call the encoder."""
        return str(self.options.method["name"])

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        full, rest = divmod(len(self.images), self.options.batch)
        return full + (rest > 1 and not self.options.drop_last)  # BatchNorm cannot do with one image

    def epoch(self, watch: Callable[[int, str], None]) -> None:
        """Train one epoch and add its row to the history: epoch, lr, loss and each term (means over the images).

        Args:
            watch: called now and then with the number of steps done since and a text about them.

        Raises:
            InputError: a loss term or a weight is no longer a finite number.
        """
        number = len(self.history) + 1
        lr = self.options.learning_rate(number - 1)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        generator = self._reseed(number)
        order = torch.randperm(len(self.images), generator=generator, device=self.device)
        terms = _Terms(f"epoch {number}", self._advice)
        started = shown = time.perf_counter()
        told = 0
        for step, index in enumerate(order.split(self.options.batch)[: self.steps], 1):
            terms.add(self._step(index, generator), len(index))
            now = time.perf_counter()
            if now - shown > REFRESH_S or step == self.steps:
                text = terms.collect()
                rate = min(step * self.options.batch, len(order)) / (now - started)
                watch(step - told, f"epoch {number} {text} {rate:,.0f} images/s")
                shown, told = now, step
        means = terms.means()
        self._check_weights(number)
        self.history.append({"epoch": number, "lr": lr, "loss": sum(means.values()), **means})

    def state(self) -> dict[str, Any]:
        """The state after an epoch: tensors and plain values."""
        return {
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
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
        except (RuntimeError, ValueError) as error:
            raise InputError(f"The checkpoint does not fit its config.yaml: {' '.join(str(error).split())}") from error
        self.history = list(state["history"])

    def save_encoder(self, run: Path) -> None:
        """Write the encoder as it is now."""
        save_encoder(
            run,
            name=self.name,
            backbone_name=self.options.backbone,
            backbone=self.method.backbone,
            heads=cast(dict[str, Head], dict(self.method.heads)),
            mean=self.options.mean,
            std=self.options.std,
            size=self.images.shape[-1],
            train={
                "method": self.name,
                "seed": self.seed,
                "data": self.data.name,
                "data_fingerprint": self.data.fingerprint,
                "epochs": len(self.history),
                "selection": "last",
                "k": self.k,
            },
        )

    def _build(self) -> Method:
        count, size = len(self.images), tuple(self.images.shape[-2:])
        if not self.k:
            raise InputError(f"{self.data.name!r} names no classes: set the number of clusters, trainer.k=10.")
        if not 2 <= self.k <= count:
            raise InputError(f"k={self.k} clusters for {count} images: at least 2 and at most {count} make sense.")
        if self.options.batch > count:
            raise InputError(
                f"trainer.batch={self.options.batch} is more than the {count} images of {self.data.name!r}."
            )
        backbone = build_backbone(self.options.backbone)
        smallest = 2 * int(getattr(backbone, "stride", 1))  # below it the last feature map has a single position
        if size[0] != size[1] or min(size) < smallest:
            raise InputError(
                f"trainer.backbone={self.options.backbone} needs square images of at least {smallest} pixels, and those "
                f"of {self.data.name!r} are {size[0]}x{size[1]}. Use another backbone or other images."
            )
        parameters = dict(self.options.method)
        kind = METHODS.load(parameters.pop("name", None) or "")
        if not (inspect.isclass(kind) and issubclass(kind, Method)):
            raise InputError(f"trainer.method.name={self.name} is not a Method.")
        return kind(
            backbone,
            samples=count,
            k=self.k,
            **bind(kind, parameters, "trainer.method", reserved=("samples", "k")),
        )

    def _reseed(self, epoch: int) -> torch.Generator:
        digest = hashlib.sha256(f"{self.seed}/{epoch}".encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:7], "big"))  # what a method draws
        return torch.Generator(self.device).manual_seed(int.from_bytes(digest[7:14], "big"))  # order and views

    def _step(self, index: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        images = self.images[index]
        views = [self.normalise(self.augment(images, view, generator)) for view in range(self.method.views)]
        views = [view.contiguous(memory_format=torch.channels_last) for view in views]
        with torch.no_grad():
            self.method.before_step()
        terms = self.method.losses(views, index)
        self.optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        self.optimizer.step()
        with torch.no_grad():
            self.method.after_step()
        return terms

    def _check_weights(self, epoch: int) -> None:
        tensors = [value for value in self.method.state_dict().values() if value.is_floating_point()]
        if not torch.stack([value.isfinite().all() for value in tensors]).all():
            raise InputError(f"The weights are no longer finite numbers after epoch {epoch}. {self._advice}")

    @property
    def _advice(self) -> str:
        return (
            f"The run folder keeps the state of the epoch before. Try a lower trainer.lr (now {self.options.lr}), some "
            f"trainer.warmup (now {self.options.warmup}), or trainer.precision=float32 (now {self.options.precision})."
        )


class _Terms:
    """The loss terms of an epoch, summed on the host in the order of the steps, whenever they are collected."""

    def __init__(self, where: str, advice: str) -> None:
        self._where, self._advice = where, advice
        self._pending: list[tuple[torch.Tensor, int]] = []
        self._names: list[str] = []
        self._sums: list[float] = []
        self._steps = self._weight = 0

    def add(self, terms: Mapping[str, torch.Tensor], weight: int) -> None:
        """Remember one step's terms without waiting for the device."""
        self._names = list(terms)
        self._pending.append((torch.stack([term.detach().float() for term in terms.values()]), weight))

    def collect(self) -> str:
        """Bring what was added to the host and check it; returns the last values as text."""
        rows = torch.stack([row for row, _ in self._pending]).double()
        for row, (_, weight) in zip(rows.tolist(), self._pending, strict=True):
            self._steps += 1
            for name, value in zip(self._names, row, strict=True):
                if not abs(value) < float("inf"):
                    raise InputError(
                        f"Loss term {name!r} became {value} in {self._where}, step {self._steps}. {self._advice}"
                    )
            self._sums = [
                total + value * weight for total, value in zip(self._sums or [0.0] * len(row), row, strict=True)
            ]
            self._weight += weight
        self._pending = []
        return " ".join(f"{name} {value:.3f}" for name, value in zip(self._names, row, strict=True))

    def means(self) -> dict[str, float]:
        """The mean of each term over the images, after all was collected."""
        return {name: total / self._weight for name, total in zip(self._names, self._sums, strict=True)}


def _optimizer(options: Options, method: Method) -> torch.optim.Optimizer:
    parameters, decay = method.parameters(), options.weight_decay
    if options.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=options.lr, betas=(options.momentum, 0.999), weight_decay=decay)
    return torch.optim.SGD(parameters, lr=options.lr, momentum=options.momentum, weight_decay=decay)
