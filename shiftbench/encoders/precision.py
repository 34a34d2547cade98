"""Which arithmetic a device is fast in, and a network's copy that runs in bfloat16."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from shiftbench.runtime.console import say

Network = TypeVar("Network", bound=nn.Module)

DTYPES = ("auto", "float32", "bfloat16")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16: x86 with avx512_bf16 or amx_bf16, NVIDIA from Ampere on.

    Examples:
        >>> has_fast_bfloat16(torch.device("cpu")) in (True, False)
        True
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and bool(re.search(r"\b(avx512_bf16|amx_bf16)\b", cpuinfo.read_text(errors="replace")))


def channels_last(network: Network) -> Network:
    """The same network, with its weights in the layout in which convolutions are fastest.

    Examples:
        >>> channels_last(nn.Conv2d(3, 4, 3)).weight.is_contiguous(memory_format=torch.channels_last)
        True
    """
    to: Callable[..., Any] = network.to  # torch's annotations leave memory_format out
    to(memory_format=torch.channels_last)
    return network


def fast_copy(network: nn.Module, keep: Collection[str] = ()) -> nn.Module:
    """A copy to be run under bfloat16 autocast: BatchNorm folded into convolutions, their weights cast once.

    Args:
        network: in evaluation mode.
        keep: names of layers whose outputs must stay as they are.

    Examples:
        >>> fast_copy(nn.Linear(2, 2)).weight.dtype
        torch.bfloat16
    """
    try:
        quick = copy.deepcopy(network)
    except RuntimeError:  # weights that are computed from others; autocast casts them each time
        return network
    fold_batch_norm(quick, keep)
    for module in quick.modules():
        if type(module) in (nn.Conv2d, nn.Linear):  # a subclass may use its weights in another way
            module.to(torch.bfloat16)
    return channels_last(quick)


def fold_batch_norm(network: nn.Module, keep: Collection[str] = ()) -> int:
    """Fold each BatchNorm into the convolution before it, in place, where nothing else reads the convolution's output.

    That is told by a symbolic trace (torch.fx). A network that cannot be traced stays as it is, which is said; layers
    that run twice and convolutions named in ``keep`` stay as they are too.

    Returns:
        How many were folded.

    Examples:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()).eval()
        >>> fold_batch_norm(network), network[1]
        (1, Identity())
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return 0
    try:
        graph = fx.Tracer().trace(network)
    except Exception as error:  # control flow that depends on data, or whatever else anyone's forward does
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        say(f"{type(network).__name__} keeps its BatchNorm in bfloat16, since its forward cannot be traced ({reason})")
        return 0
    layers = dict(network.named_modules())
    runs = Counter(node.target for node in graph.nodes if node.op == "call_module")
    folded = 0
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        norm, convolution = layers[str(node.target)], layers[str(before.target)]
        once = runs[node.target] == runs[before.target] == 1
        if type(norm) is nn.BatchNorm2d and type(convolution) is nn.Conv2d and norm.running_var is not None and once:
            if before.target in keep:
                continue
            _replace(network, str(before.target), fuse_conv_bn_eval(convolution, norm))
            _replace(network, str(node.target), nn.Identity())
            folded += 1
    return folded


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    old = network.get_submodule(name)
    module._forward_hooks.update(old._forward_hooks)  # taps of the old layer read the new one
    setattr(network.get_submodule(parent), attribute, module)
