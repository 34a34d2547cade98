"""A moving average of the weights, which is often the better encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from shiftbench.trainers.base import Method


def encoder_state(method: Method) -> dict[str, torch.Tensor]:
    """Weights and statistics of backbone and heads, which are saved: the method's own tensors, no copies."""
    return {name: value for name, value in method.state_dict().items() if name.startswith(("backbone.", "heads."))}


class WeightAverage:
    """An exponential moving average, over the steps, of those weights of a method that are saved.

    Written here since torch's AveragedModel copies the whole module: the memory banks as well, and a forward pass that
    :func:`shiftbench.trainers.network.prepare` has bound to the original's weights.

    Args:
        method: on its device.
        decay: share of the average that a step keeps. The first steps keep less, (1 + step) / (10 + step), so that the
            weights from before the training are soon forgotten.
    """

    def __init__(self, method: Method, decay: float) -> None:
        self.decay = decay
        self.step = 0
        self._method = method
        self._live = encoder_state(method)
        self._mean = {name: value.clone() for name, value in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Add the weights after a step to the average."""
        self.step += 1
        weight = 1 - min(self.decay, (1 + self.step) / (10 + self.step))
        floating = [name for name, value in self._live.items() if value.is_floating_point()]
        means, values = ([state[name] for name in floating] for state in (self._mean, self._live))
        torch._foreach_lerp_(means, values, weight)
        for name in self._live.keys() - set(floating):  # BatchNorm's count of batches
            self._mean[name].copy_(self._live[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the averages are the method's weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self._live.items():
            mean = self._mean[name]
            before = value.clone()
            value.copy_(mean)
            mean.copy_(before)
        self._method.complete()

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"step": self.step, "mean": self._mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.step = state["step"]
        for name, value in self._mean.items():
            value.copy_(state["mean"][name])
