"""Training in the processes that ``torchrun`` starts together: same weights, same steps, a share of each batch.

Every process augments and encodes its share; the losses see the features of all (:func:`gathered`). So a run of two
processes is the run of one, up to rounding, where BatchNorm's statistics are shared too.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import torch
from torch import distributed, nn
from torch.nn import functional

from shiftbench.encoders.backbones import Head
from shiftbench.encoders.base import pick_device
from shiftbench.errors import InputError
from shiftbench.runtime import processes
from shiftbench.runtime.console import stderr

PATIENCE = timedelta(hours=2)  # the first process may score or write while the others wait


def join(device: str) -> torch.device:
    """Meet the other processes, if there are any; all but the first stop printing.

    Args:
        device: as the configuration names it; "auto" is a GPU of its own for each process, where there are GPUs.

    Returns:
        The device of this process.

    Raises:
        InputError: there is no such device, or there are fewer GPUs than processes.
    """
    chosen = pick_device(processes.device(device))
    if processes.world() == 1:
        return chosen
    stderr.quiet = processes.rank() > 0
    if chosen.type == "cuda":
        if chosen.index is None or chosen.index >= torch.cuda.device_count():
            raise InputError(
                f"{processes.world()} processes need a GPU each, and here are {torch.cuda.device_count()}: start "
                "as many processes as GPUs (torchrun --nproc-per-node) with device=auto, or give device=cpu."
            )
        torch.cuda.set_device(chosen)
    if not distributed.is_initialized():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    return chosen


class _Summed(torch.autograd.Function):
    """The sum of a tensor over the processes, in each of them; its gradient is the sum of theirs.

    Written here since ``torch.distributed.nn.functional`` is deprecated and torch 2.4 has no public successor.
    """

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return _Summed.forward(ctx, gradients[0])


def gathered(tensor: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, in the order of their ranks; the tensor itself where there is one process.

    A loss of gathered rows is the loss of the whole batch in every process. Its gradient flows back to the rows of
    this process, summed over the processes, so that the mean over the processes of a parameter's gradients is the
    whole batch's.

    Args:
        tensor: (B, ...), of equal shape in every process.

    Returns:
        (processes * B, ...).
    """
    if processes.world() == 1:
        return tensor
    before, after = processes.rank() * len(tensor), (processes.world() - 1 - processes.rank()) * len(tensor)
    return _Summed.apply(functional.pad(tensor, [0, 0] * (tensor.ndim - 1) + [before, after]))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes, in one exchange.

    DistributedDataParallel wants one forward pass of one module in a step. Here a step is several passes, and the
    losses exchange features between the processes.
    """
    if processes.world() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= processes.world()
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def share_batch_norm(module: nn.Module) -> None:
    """Make BatchNorm use the statistics of all processes' images, in place; heads get the images of all anyway."""
    if processes.world() == 1:
        return
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            gpu = child.running_mean is not None and child.running_mean.is_cuda
            shared = nn.SyncBatchNorm.convert_sync_batchnorm(child) if gpu else SharedBatchNorm.of(child)
            setattr(module, name, shared)
        elif not isinstance(child, Head):
            share_batch_norm(child)


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm over the images of all processes, on a CPU, where torch's SyncBatchNorm does not run."""

    @classmethod
    def of(cls, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> SharedBatchNorm:
        """A layer with the settings and statistics of another, and the very same parameters."""
        shared = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        shared.load_state_dict(norm.state_dict())
        shared.weight, shared.bias = norm.weight, norm.bias
        return shared

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, ...) -> the same shape; every process must have as many images."""
        if not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        values = input.float()
        mean = _Summed.apply(values.mean(axes)) / processes.world()
        centred = values - self._channels(mean, input)
        variance = _Summed.apply(centred.square().mean(axes)) / processes.world()
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            count = processes.world() * input.numel() // input.shape[1]
            with torch.no_grad():
                self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
                weight = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)  # type: ignore[arg-type]
                self.running_mean.lerp_(mean, weight)
                self.running_var.lerp_(variance * count / (count - 1), weight)
        normal = centred * self._channels((variance + self.eps).rsqrt(), input)
        if self.affine:
            normal = normal * self._channels(self.weight, input) + self._channels(self.bias, input)
        return normal.to(input.dtype)

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Every shape that forward takes will do."""

    @staticmethod
    def _channels(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return values.view(1, -1, *[1] * (like.ndim - 2))
