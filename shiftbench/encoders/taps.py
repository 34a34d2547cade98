"""Which features are taken of a network: its output, that of a head or of a layer; pooled, scaled to unit length."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from shiftbench.errors import InputError, unknown

POOLS = ("avg", "max", "cls", "flatten", "none")


@dataclass(frozen=True)
class Feature:
    """One feature of an encoder.

    Attributes:
        source: "backbone", a head's name, or a layer's.
        pool: how maps (N, C, H, W) or tokens (N, T, C) become (N, D): "avg" or "max" over positions, "cls" (the first
            token), "flatten"; "none" and "" change nothing, so that only (N, D) can be used.
        l2: scale to unit length.
    """

    source: str = "backbone"
    pool: str = ""
    l2: bool = False

    @property
    def name(self) -> str:
        """What tables call it: ``layer3``, ``layer3+max``, ``backbone+l2``."""
        return "+".join(filter(None, (self.source, self.pool, "l2" * self.l2)))

    def of(self, value: torch.Tensor) -> torch.Tensor:
        """Pool and scale the output of the source: float32, (N, D) unless it has positions and no pool is named."""
        pooled = _pooled(value.float(), self.pool, self.source)
        return nn.functional.normalize(pooled, dim=1) if self.l2 and pooled.ndim == 2 else pooled


def _pooled(value: torch.Tensor, pool: str, source: str) -> torch.Tensor:
    if value.ndim not in (3, 4) or pool in ("", "none"):
        return value
    if pool == "flatten":
        return value.flatten(1)
    if pool == "cls":
        if value.ndim == 4:
            raise InputError(f"pool=cls: {source} gives maps {tuple(value.shape)}, not tokens; use pool=avg.")
        return value[:, 0]
    positions = (2, 3) if value.ndim == 4 else (1,)
    return value.mean(positions) if pool == "avg" else value.amax(positions)


def choose_features(
    wanted: Sequence[str], pool: str, l2: bool, known: Sequence[str], layers: Sequence[str]
) -> list[Feature]:
    """The features that a user asks for.

    Args:
        wanted: names of features or layers; empty for all known features.
        pool: a name of ``POOLS``, for the layers, or for the encoder's own features where no layer is wanted; with ""
            layers are averaged and other features stay as they are.
        l2: scale features to unit length.
        known: the encoder's own features.
        layers: names of the layers that can be tapped.

    Raises:
        InputError: no such feature, layer or pooling.
    """
    if pool and pool not in POOLS:
        raise unknown("pool", pool, POOLS)
    wanted = wanted or known
    for source in wanted:
        if source not in known and source not in layers:
            raise unknown("feature", source, [*known, *(name for name in layers if name.count(".") < 2)])
    tapped = [source for source in wanted if source not in known]
    pools = dict.fromkeys(tapped, pool or "avg") if tapped else dict.fromkeys(wanted, pool)
    return [Feature(source, pools.get(source, ""), l2) for source in wanted]


class Taps:
    """Reads the outputs of named layers while a network runs, in any number of threads at once.

    Args:
        network: where the layers are.
        names: those of ``named_modules``.
    """

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        self._running = threading.local()
        for name in names:
            network.get_submodule(name).register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            seen = getattr(self._running, "seen", None)
            if seen is not None:
                seen.setdefault(name, []).append(_tensor(output, name))

        return keep

    @contextmanager
    def __call__(self) -> Iterator[dict[str, list[torch.Tensor]]]:
        """Yield a dictionary that receives the outputs of each layer, one for each time that it runs in the block."""
        self._running.seen = {}
        try:
            yield self._running.seen
        finally:
            del self._running.seen


def only_output(seen: Mapping[str, list[torch.Tensor]], name: str) -> torch.Tensor:
    """The output of a layer that ran once.

    Raises:
        InputError: a layer that did not run, or that ran several times, so that its name does not tell which output.
    """
    outputs = seen.get(name, [])
    if len(outputs) != 1:
        times = "does not run" if not outputs else f"runs {len(outputs)} times"
        raise InputError(f"feature={name}: that layer {times} when images are encoded; name one that runs once.")
    return outputs[0]


def _tensor(output: Any, name: str) -> torch.Tensor:
    """The main tensor of a layer's output: the first of a tuple, the last state of a named output."""
    if isinstance(output, Mapping):
        output = output.get("last_hidden_state", next(iter(output.values()), None))
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    if not isinstance(output, torch.Tensor):
        raise InputError(f"feature={name}: that layer returns a {type(output).__name__}, not a tensor.")
    return output


def split_classifier(network: nn.Module, images: torch.Tensor) -> str:
    """Take off the linear layer that makes a network's output, in place.

    Args:
        network: float (N, 3, H, W) -> (N, classes).
        images: float (N, 3, H, W), to run it on.

    Returns:
        The layer's name; "" where no linear layer makes the output, and nothing is changed.
    """
    outputs: dict[str, Any] = {}
    handles = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: outputs.update({name: output}))
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        with torch.inference_mode():
            result = network.eval()(images)
    finally:
        for handle in handles:
            handle.remove()
    last = next((name for name, output in outputs.items() if output is result), "")
    if last:
        parent, _, attribute = last.rpartition(".")
        setattr(network.get_submodule(parent), attribute, nn.Identity())
    return last
