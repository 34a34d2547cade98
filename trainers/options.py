"""The options of a training run and how they are checked."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch

from shiftbench.errors import InputError, unknown
from shiftbench.trainers.ranges import above_zero, at_least, require, share, within

KEYS = ("seed", "device", "runs", "limit", "resume", "data", "trainer")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What ``trainer.*`` sets, whatever the method; configs/train.yaml and method/base.yaml say where values come from.

    Every time is given as a share of the epochs, so that it scales with ``epochs``.

    Args:
        method, augmentation: see :class:`shiftbench.trainers.base.Method` and
            :class:`shiftbench.trainers.augment.Augmentation`.
        k: number of clusters; None = the data set's number of classes.
        backbone: a registered backbone.
        epochs: passes over the training split.
        batch: images per step, in all processes together; at least 2, since BatchNorm compares images.
        accumulate: number of parts in which the backbone takes its share of the batch, one after the other. Their
            gradients add up, and losses still see the whole batch. It takes a third more time, and the memory of a part.
        drop_last: leave out the last, smaller batch of each epoch.
        optimizer: SGD or Adam.
        lr: learning rate before any schedule.
        momentum: of SGD; Adam's first beta.
        weight_decay: on every parameter.
        schedule: of the learning rate over the epochs, see :meth:`learning_rate`.
        milestones: shares of the epochs at which ``multistep`` multiplies by ``decay``.
        decay: that factor, above 0 and at most 1.
        final_lr: where ``cosine`` ends, as a share of ``lr``.
        warmup: share of the epochs in which the rate rises linearly.
        ema: decay of a moving average of the weights, which is then what is saved; 0 = none.
        precision: what the backbone computes in.
        compile: whether torch.compile is asked to speed up the backbone.
        sync_bn: whether BatchNorm counts the images of all processes.
        workers: threads that decode image files; None = one per core.
        checkpoint_every: epochs between two checkpoints.
        keep: how many of the last checkpoints are kept.
        collapse: what happens after three epochs of collapsed features or clusters; ``ignore`` does not look.
        monitor: whether features are scored with labels every few epochs, see :mod:`shiftbench.trainers.monitor`.
        monitor_every: epochs between two such scores.
        select: whose weights are saved: the ``last`` epoch's, or those of the best ``monitor_acc``, which uses labels.
        threads: CPU threads of a step; None = torch's own choice.
        mean, std: input normalisation per channel on the 0..1 scale.

    Raises:
        InputError: a value outside its range.
    """

    method: dict
    augmentation: dict
    k: int | None
    backbone: str
    epochs: int
    batch: int
    accumulate: int
    drop_last: bool
    optimizer: Literal["sgd", "adam"]
    lr: float
    momentum: float
    weight_decay: float
    schedule: Literal["multistep", "cosine", "constant"]
    milestones: tuple[float, ...]
    decay: float
    final_lr: float
    warmup: float
    ema: float
    precision: Literal["float32", "bfloat16", "float16"]
    compile: bool
    sync_bn: bool
    workers: int | None
    checkpoint_every: int
    keep: int
    collapse: Literal["warn", "stop", "ignore"]
    monitor: bool
    monitor_every: int
    select: Literal["last", "oracle"]
    threads: int | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        where = "trainer."
        at_least(1, where, epochs=self.epochs, checkpoint_every=self.checkpoint_every, keep=self.keep)
        at_least(1, where, monitor_every=self.monitor_every, threads=self.threads, workers=self.workers)
        at_least(2, where, batch=self.batch, k=self.k)
        at_least(0, where, weight_decay=self.weight_decay)
        above_zero(where, lr=self.lr, decay=self.decay, milestones=self.milestones, std=self.std)
        share(where, momentum=self.momentum, milestones=self.milestones, warmup=self.warmup, ema=self.ema)
        within(0, 1, where, decay=self.decay, final_lr=self.final_lr)
        require(
            1 <= self.accumulate <= self.batch // 2,
            "trainer.accumulate",
            self.accumulate,
            f"at least 1, and leave two of batch={self.batch} images to each part",
        )
        needs = "last, or come with trainer.monitor=true"
        require(self.select == "last" or self.monitor, "trainer.select", self.select, needs)

    def learning_rate(self, epoch: int) -> float:
        """The learning rate of one epoch, counted from 0; everything scales with ``epochs``."""
        warmup = round(self.warmup * self.epochs)
        if epoch < warmup:
            return self.lr * (epoch + 1) / (warmup + 1)
        if self.schedule == "cosine":
            height = (1 + math.cos(math.pi * epoch / self.epochs)) / 2
            return self.lr * (self.final_lr + (1 - self.final_lr) * height)
        if self.schedule == "multistep":
            return self.lr * self.decay ** sum(epoch >= round(share * self.epochs) for share in self.milestones)
        return self.lr


def check_config(config: Mapping[str, Any]) -> None:
    """Check the keys of a run's configuration, and its ``seed`` and ``limit``.

    Raises:
        InputError: a key is unknown or missing, or ``seed`` or ``limit`` is no whole number in its range.
    """
    for key in config:
        if key not in KEYS:
            raise unknown("option", key, KEYS)
    for key in KEYS:
        if key not in config:
            raise InputError(f"The configuration lacks {key!r}; shiftbench.configs.compose('train') gives a whole one.")
    seed, limit = config["seed"], config["limit"]
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed={seed!r} must be a whole number, at least 0.")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise InputError(f"limit={limit!r} must be a whole number, at least 1.")


def bind(
    factory: Callable[..., Any], options: Mapping[str, Any], where: str, reserved: Collection[str] = ()
) -> dict[str, Any]:
    """Check options against the keyword-only parameters of what they will be passed to.

    Args:
        factory: a class or function with annotated keyword-only parameters, see :func:`accepted`.
        options: what the user gave.
        where: the prefix of these options in messages ("trainer.method").
        reserved: parameters that are not for the user.

    Returns:
        The options, numbers and lists converted to the declared types.

    Raises:
        InputError: an option is unknown, missing, or of the wrong type.
    """
    allowed = {name: parameter for name, parameter in accepted(factory).items() if name not in reserved}
    for name in options:
        if name not in allowed:
            raise unknown(f"option of {where}", name, allowed)
    for name, parameter in allowed.items():
        if parameter.default is parameter.empty and name not in options:
            raise InputError(f"{where}.{name} is missing.")
    return {name: _convert(value, allowed[name].annotation, f"{where}.{name}") for name, value in options.items()}


def accepted(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a function or class, by name, with their types as annotations.

    Those of a constructor that passes the rest on (``**rest``) include those of the class that it extends.
    """
    functions = [factory]
    if inspect.isclass(factory):
        functions = [vars(kind)["__init__"] for kind in factory.__mro__ if "__init__" in vars(kind)]
    parameters: dict[str, inspect.Parameter] = {}
    for function in functions:
        own, hints = inspect.signature(function).parameters.values(), get_type_hints(function)
        for parameter in own:
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in parameters:
                parameters[parameter.name] = parameter.replace(annotation=hints.get(parameter.name, Any))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own):
            break
    return parameters


def _convert(value: Any, hint: Any, name: str) -> Any:
    if hint is Any:  # the parameter has no annotation
        return value
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return None
        return _convert(value, next(kind for kind in arguments if kind is not NoneType), name)
    if origin is Literal:
        if value in arguments:
            return value
        raise unknown(name, value, arguments)
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [arguments[0]] * len(value) if Ellipsis in arguments else arguments
        if len(kinds) == len(value):
            return tuple(_convert(item, kind, name) for item, kind in zip(value, kinds, strict=True))
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif hint in (int, str, bool, dict) and type(value) is hint:  # type, since True is an int
        return value
    wanted = hint.__name__ if inspect.isclass(hint) and origin is None else hint
    raise InputError(f"{name}={value!r} should be {wanted}.")
