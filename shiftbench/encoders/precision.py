"""In which arithmetic encoders run: float32, or bfloat16 where that is faster and says the same."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from shiftbench.console import say
from shiftbench.errors import InputError, unknown
from shiftbench.images import Images, evenly_spaced, take

if TYPE_CHECKING:
    from shiftbench.encoders.base import Encoder

DTYPES = ("auto", "float32", "bfloat16")
SAME = 0.999  # least agreement of bfloat16 features with float32 ones
PROBE = 64  # images that show it


def settle(encoders: Sequence[Encoder], images: Images, dtype: str = "auto") -> list[Encoder]:
    """Bring all encoders of one comparison to one arithmetic.

    "auto" is bfloat16 where every network runs on a device that is fast in it and the features of a probe agree with
    those in float32 (:func:`agreement` of at least 0.999); otherwise all run in float32. An encoder that was loaded
    in an arithmetic of its own decides for all. Encoders without a torch network of ours compute as they do.

    Args:
        encoders: in any order.
        images: uint8 (N, 3, H, W), clean images; up to 64 of them are encoded twice.
        dtype: "auto", "float32" or "bfloat16".

    Returns:
        The encoders in the same order; those that change are new, and share their weights with the old ones.

    Raises:
        InputError: two of them, or one and ``dtype``, ask for different arithmetics.
    """
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    networks = [encoder for encoder in encoders if encoder.castable]
    asked = {encoder.dtype: encoder.name for encoder in networks if encoder.pinned}
    if dtype != "auto":
        asked.setdefault(dtype, "the evaluation")
    if len(asked) > 1:
        some = " and ".join(f"{kind} for {name}" for kind, name in sorted(asked.items()))
        raise InputError(f"One comparison has one arithmetic, and {some} were asked for: leave dtype out, or agree.")
    fast = all(has_fast_bfloat16(encoder.device) for encoder in networks)
    target = next(iter(asked), "bfloat16" if fast else "float32")
    cast = {id(encoder): encoder.with_dtype(target) for encoder in networks}
    if target == "bfloat16":
        probe = evenly(images)
        for encoder in networks:
            same = agreement(encoder.with_dtype("float32"), cast[id(encoder)], probe)
            if same >= SAME:
                continue
            differ = f"bfloat16 features of {encoder.name} agree with float32 ones to {same:.4f} only"
            if asked:
                say(f"{differ}; they are used since they were asked for")
            else:
                say(f"{differ}: all encoders run in float32")
                return settle(encoders, images, "float32")
    return [cast.get(id(encoder), encoder) for encoder in encoders]


def agreement(one: Encoder, other: Encoder, images: torch.Tensor) -> float:
    """How far two encoders say the same about uint8 (N, 3, H, W): 1 where their features are equal.

    It is the cosine between all centred features of the one and of the other, (N, D) taken as one vector each, of
    the feature where it is lowest. Centring matters: features far from the origin have cosines near 1 whatever
    they say. An encoder that fails on the images agrees: its failure is reported where it is used.
    """
    found = [1.0]
    with suppress(Exception):  # a stranger's code may raise anything
        left, right = one.features(images), other.features(images)
        for name, value in left.items():
            a, b = ((side - side.mean(0)).double().flatten() for side in (value, right[name]))
            size = a.norm() * b.norm()
            found.append(float(a @ b / size) if size > 0 else float(torch.equal(a, b)))
    return min(found)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16: x86 with avx512_bf16 or amx_bf16, NVIDIA from Ampere on."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and bool(re.search(r"\b(avx512_bf16|amx_bf16)\b", cpuinfo.read_text(errors="replace")))


def fast_copy(network: nn.Module, keep: Collection[str] = ()) -> nn.Module:
    """A copy to be run under bfloat16 autocast: BatchNorm folded into convolutions, their weights cast once.

    Args:
        network: in evaluation mode.
        keep: names of layers whose outputs are needed as they are.
    """
    try:
        quick = copy.deepcopy(network)
    except RuntimeError:  # weights that are computed from others; autocast casts them each time
        return network
    fold_batch_norm(quick, keep)
    for module in quick.modules():
        if type(module) in (nn.Conv2d, nn.Linear):  # a subclass may compute with its weights what it likes
            module.to(torch.bfloat16)
    return quick.to(memory_format=torch.channels_last)


def fold_batch_norm(network: nn.Module, keep: Collection[str] = ()) -> int:
    """Fold each BatchNorm into the convolution whose output it alone reads, in place; returns how many.

    Which those are is read from a symbolic trace (torch.fx). A network that cannot be traced stays as it is; so do
    layers that run twice and convolutions named in ``keep``.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return 0
    try:
        graph = fx.Tracer().trace(network)
    except Exception:  # control flow that depends on data, or anything else in a stranger's forward
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
    module._forward_hooks.update(old._forward_hooks)  # whoever taps the layer still finds it
    setattr(network.get_submodule(parent), attribute, module)


def evenly(images: Images, number: int = PROBE) -> torch.Tensor:
    """Up to so many of the images, evenly spaced: uint8 (n, 3, H, W)."""
    return take(images, evenly_spaced(len(images), number))[:]
