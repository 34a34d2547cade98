"""The training loop, the same for all methods: epochs, batches, views, steps and checkpoints. Losses are the methods'."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from shiftbench.data.base import load_dataset
from shiftbench.data.division import limited
from shiftbench.encoders.backbones import Head
from shiftbench.encoders.preprocess import Preprocess
from shiftbench.encoders.run_folder import save_encoder
from shiftbench.errors import InputError
from shiftbench.images import evenly
from shiftbench.runtime import processes
from shiftbench.runtime.console import say
from shiftbench.trainers import run_files
from shiftbench.trainers.augment import Augmentation, ViewRng
from shiftbench.trainers.average import WeightAverage
from shiftbench.trainers.build import build_method, build_optimizer
from shiftbench.trainers.distributed import average_gradients, join
from shiftbench.trainers.feed import batches, resident, steps
from shiftbench.trainers.health import Terms, collapse, enough_memory, signs
from shiftbench.trainers.monitor import Monitor
from shiftbench.trainers.options import Options, bind

REFRESH_S = 0.5  # how often the losses are brought to the host, checked and shown within an epoch
WATCHED_IMAGES = 256  # training images whose features are watched for signs of collapse


class Trainer:
    """Everything that trains a method epoch by epoch, built from a configuration.

    All randomness is a function of the seed, and within an epoch of the seed and the epoch's number. So the state after
    an epoch is the method's parameters and buffers, the optimiser's state, the loss scale and the weight average, and
    nothing else.

    Args:
        config: as ``compose("train")`` gives it; ``runs`` and ``resume`` are not used here.
        device: of this process; None = as the configuration says.

    Raises:
        InputError: a name or an option does not exist, or it cannot be trained with these data.
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
        self.watched = evenly(self.data.train.images, WATCHED_IMAGES)
        self.history: list[dict[str, float | None]] = []

    @property
    def name(self) -> str:
        """The method's name, which is the encoder's name in tables."""
        return str(self.options.method["name"])

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps in an epoch."""
        return len(self.shares)

    @property
    def is_best(self) -> bool:
        """Whether ``trainer.select=oracle`` would choose the last epoch among those so far."""
        scores = [row.get("monitor_acc") for row in self.history]
        known = [score for score in scores if score is not None]
        return self.options.select == "oracle" and scores[-1] is not None and scores[-1] > max(known[:-1], default=-1)

    def epoch(self, advance: Callable[[int, str], None]) -> None:
        """Train one epoch and add its row to the history.

        A row holds epoch, lr, loss, and the means over the images of each term and each diagnostic of the method. In
        the first process the results of :func:`signs` and :class:`Monitor` follow.

        Args:
            advance: called every half second and after the last step, with the number of steps since the last call and
                a text about them.

        Raises:
            InputError: a loss term or a weight is no longer a finite number.
        """
        number = len(self.history) + 1
        lr = self.options.learning_rate(number - 1)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        order, rng = self._reseed(number)
        self.method.train()
        with torch.no_grad():
            self.method.before_epoch(number - 1, self.options.epochs, self.unchanged)
        terms = Terms(f"epoch {number}", self._advice)
        diagnostics = Terms(f"epoch {number}", self._advice)
        started = shown = time.perf_counter()
        reported = seen = 0
        for step, (index, pixels) in enumerate(self._shuffled(order), 1):
            self.method.progress = (number - 1 + (step - 1) / self.steps_per_epoch) / self.options.epochs
            rng.count = len(index) * processes.world()
            rng.rows = slice(len(index) * processes.rank(), len(index) * (processes.rank() + 1))
            terms.add(self._step(index, pixels, rng), rng.count)
            if self.method.diagnostics:
                diagnostics.add(self.method.diagnostics, rng.count)
            seen += rng.count
            now = time.perf_counter()
            if now - shown > REFRESH_S or step == self.steps_per_epoch:
                text = terms.collect()
                advance(step - reported, f"epoch {number} {text} {seen / (now - started):,.0f} images/s")
                shown, reported = now, step
        means = terms.means()
        self._check_weights(number)
        row: dict[str, float | None] = {"epoch": number, "lr": lr, "loss": sum(means.values()), **means}
        if self.method.diagnostics:
            diagnostics.collect()
            row |= diagnostics.means()
        self.history.append(row if processes.rank() else row | self._watch(number))

    def unchanged(self, rows: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        """Training images without augmentation, in normalised batches: all in their order, or those at int64 ``rows``."""
        order = torch.arange(len(self.images)) if rows is None else rows
        for _, pixels in batches(self.images, order, self.options.batch, self.device, self.options.workers):
            yield self._normalised(self.augment.unchanged(pixels))

    def averaged(self) -> Any:
        """A context in which the method has the weights that would be saved."""
        return self.average.applied() if self.average else nullcontext()

    def check_health(self) -> None:
        """Warn of a collapse once it has lasted, or stop there if that is asked for.

        Raises:
            InputError: features or clusters have collapsed, with ``trainer.collapse=stop``.
        """
        symptom = collapse(self.history, self.k)
        if not symptom:
            return
        text = f"Collapsed by epoch {len(self.history)}: {symptom}. Try a lower trainer.lr, a larger trainer.batch, "
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
            InputError: the state comes from other data or from another method.
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
        """Write the encoder of the last epoch, or with ``trainer.select=oracle`` of the best one."""
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
        weights = self.averaged()
        if self.options.select == "oracle":
            self.method.load_state_dict(run_files.read_best(run), strict=False)
            train["epoch"] = max(self.history, key=lambda row: row["monitor_acc"] or -1)["epoch"]
            weights = nullcontext()
        with weights:
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

    def _reseed(self, epoch: int) -> tuple[torch.Tensor, ViewRng]:
        """The order of the images, int64 (N,), and the random numbers of their views; the same in all processes."""
        digest = hashlib.sha256(f"{self.seed}/{epoch}".encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:7], "big"))  # for the random numbers of the method
        rng = ViewRng.seeded(int.from_bytes(digest[7:14], "big"), self.options.batch, self.device)
        return torch.randperm(len(self.images), generator=rng.orders), rng

    def _shuffled(self, order: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """This process's share of each step: which images, int64 (B,), and their pixels, uint8 (B, 3, H, W)."""
        starts = [(start + share * processes.rank(), share) for start, share in self.shares]
        mine = torch.cat([order[start : start + share] for start, share in starts])
        return batches(self.images, mine, self.shares[0][1], self.device, self.options.workers)

    def _step(self, index: torch.Tensor, pixels: torch.Tensor, rng: ViewRng) -> dict[str, torch.Tensor]:
        views = [self._normalised(self.augment(pixels, view, rng)) for view in range(self.method.views)]
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
    def _watch(self, epoch: int) -> dict[str, float | None]:
        """Signs of collapse, and scores with labels if asked for, of the weights that would be saved."""
        measured: dict[str, float | None] = {}
        self.method.eval()
        with self.averaged():
            if self.options.collapse != "ignore":
                hidden = self.method.encode(self._normalised(self.augment.unchanged(self.watched.to(self.device))))
                cluster = self.method.heads["cluster"](hidden) if "cluster" in self.method.heads else None
                measured |= signs(self._default(hidden), cluster)
            if self.monitor is not None:
                measured |= dict.fromkeys(("monitor_acc", "monitor_knn"))
                if epoch % self.options.monitor_every == 0 or epoch == self.options.epochs:
                    parts = self.unchanged(torch.from_numpy(self.monitor.rows))
                    features = torch.cat([self._default(self.method.encode(part)) for part in parts])
                    measured |= self.monitor.scores(features)
        return measured

    def _default(self, hidden: torch.Tensor) -> torch.Tensor:
        """The encoder's default feature: the first head's output, or without heads the backbone's."""
        heads: list[nn.Module] = list(self.method.heads.values())
        return heads[0](hidden) if heads else hidden

    def _check_weights(self, epoch: int) -> None:
        tensors = [value for value in self.method.state_dict().values() if value.is_floating_point()]
        if not torch.stack([value.isfinite().all() for value in tensors]).all():
            raise InputError(f"The weights are no longer finite numbers after epoch {epoch}. {self._advice}")

    @property
    def _advice(self) -> str:
        return (
            f"The run folder keeps the last checkpoint before that. Try a lower trainer.lr (now {self.options.lr}), some "
            f"trainer.warmup (now {self.options.warmup}), or trainer.precision=float32 (now {self.options.precision})."
        )
