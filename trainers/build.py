"""From the options to a method on its backbone, ready to be trained, and its optimiser."""

from __future__ import annotations

import inspect

import torch

from shiftbench.encoders.backbones import build_backbone
from shiftbench.errors import InputError
from shiftbench.records import Dataset
from shiftbench.registry import METHODS
from shiftbench.runtime import processes
from shiftbench.trainers.base import Method
from shiftbench.trainers.distributed import share_batch_norm
from shiftbench.trainers.network import prepare
from shiftbench.trainers.options import PRECISIONS, Options, bind


def build_method(options: Options, data: Dataset, k: int, size: int | None, device: torch.device) -> Method:
    """A method with fresh weights, drawn from torch's global generator.

    Args:
        options: of the run.
        data: what it is trained on.
        k: number of clusters; 0 where neither the data nor the user names one.
        size: height and width of its views; None = those of the images.
        device: where it is trained.

    Raises:
        InputError: a name or an option of the method does not exist, or it does not suit the data.
    """
    count = len(data.train)
    if not k:
        raise InputError(f"{data.name!r} names no classes: set the number of clusters, trainer.k=10.")
    if not 2 <= k <= count:
        raise InputError(f"k={k} clusters for {count} images: at least 2 and at most {count} make sense.")
    _check_batch(options, data)
    backbone = build_backbone(options.backbone)
    _check_size(options, data, size, 2 * int(getattr(backbone, "stride", 1)))
    parameters = dict(options.method)
    kind = METHODS.load(parameters.pop("name", None) or "")
    if not (inspect.isclass(kind) and issubclass(kind, Method)):
        raise InputError(f"trainer.method.name={options.method['name']} is not a Method.")
    chosen = bind(kind, parameters, "trainer.method", reserved=("samples", "k"))
    method = kind(backbone, samples=count, k=k, **chosen).to(device)
    if method.clusters and options.batch < k:
        raise InputError(
            f"{options.method['name']} compares k={k} clusters within each batch: set trainer.batch={k}, or more."
        )
    if options.sync_bn:
        share_batch_norm(method)
    prepare(
        backbone, compiled=options.compile, parts=options.accumulate
    )  # copies that the method made stay as they are
    method.precision = PRECISIONS[options.precision]
    return method.to(memory_format=torch.channels_last)


def _check_batch(options: Options, data: Dataset) -> None:
    if options.batch > len(data.train):
        raise InputError(f"trainer.batch={options.batch} is more than the {len(data.train)} images of {data.name!r}.")
    share, rest = divmod(options.batch, processes.world())
    least = 2 * options.accumulate
    if rest or share < least:
        raise InputError(
            f"trainer.batch={options.batch} among {processes.world()} processes: all need equally many images, at least "
            f"{least}. Try trainer.batch={processes.world() * max(share, least)}."
        )


def _check_size(options: Options, data: Dataset, size: int | None, smallest: int) -> None:
    """Below ``smallest`` pixels the network's last feature map would be a single position."""
    height, width = (size, size) if size else data.train.images.shape[-2:]
    if height != width or height < smallest:
        raise InputError(
            f"trainer.backbone={options.backbone} needs square images of at least {smallest} pixels, and those of "
            f"{data.name!r} are {height}x{width}. Use another backbone, other images, or "
            f"trainer.augmentation.size={smallest}."
        )


def build_optimizer(options: Options, method: Method) -> torch.optim.Optimizer:
    """The optimiser of the method's parameter groups, fused into one kernel where torch can do that.

    It is not fused with float16: if the loss scaler skips the first step, torch's fused SGD reads momenta that were
    never written.
    """
    groups, decay = method.parameter_groups(), options.weight_decay
    fused = next(method.parameters()).device.type in ("cpu", "cuda") and options.precision != "float16"
    if options.optimizer == "adam":
        betas = (options.momentum, 0.999)
        return torch.optim.Adam(groups, lr=options.lr, betas=betas, weight_decay=decay, fused=fused)
    return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, weight_decay=decay, fused=fused)
