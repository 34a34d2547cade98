"""Which network a stranger's tensors belong to, told by names and shapes, wherever the tensors are in the file.

Checkpoints put prefixes before the names of a network's tensors (``state_dict.module.encoder_q.``), and each code base has
names of its own. So every prefix under which a known network could be is a guess, and the best guess is loaded. What
tensors do not show (activations, strides, pooling) is taken to be as in the network's paper.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import nn

from shiftbench.encoders import cifar_resnet, densenet, resnet, uvadlc, vgg, vit, wide_resnet
from shiftbench.errors import InputError

FAMILIES: tuple[ModuleType, ...] = (resnet, cifar_resnet, wide_resnet, uvadlc, vgg, densenet, vit)
EMA = {"ema", "teacher", "shadow", "averaged", "avg", "swa"}
COPY = {"momentum", "target", "k", "key", "student"}


@dataclass(frozen=True)
class Guess:
    """A network that a file may hold.

    Attributes:
        prefix: what stands before the names of its tensors in the file.
        name: the architecture.
        build: makes the network with fresh weights.
        state: the tensors under the prefix, with the names of the architecture.
        size: how many of these tensors belong to the network, as far as names and shapes tell.
    """

    prefix: str
    name: str
    build: Callable[[], nn.Module]
    state: Mapping[str, torch.Tensor]
    size: int


def guesses(tensors: Mapping[str, torch.Tensor]) -> Iterator[Guess]:
    """Networks of the known families in a file."""
    for family in FAMILIES:
        for prefix in _prefixes(tensors, family.ANCHOR):
            state = _canonical(family, _under(prefix, tensors))
            network = family.infer({name: tuple(value.shape) for name, value in state.items()})
            if network is not None:
                name, build = network
                yield Guess(prefix, name, build, state, len(state))


def guesses_for(backbone: nn.Module, name: str, tensors: Mapping[str, torch.Tensor]) -> Iterator[Guess]:
    """Places in a file where a given network may be: under its own names, or under those of a family."""
    own = {key: value.shape for key, value in backbone.state_dict().items()}
    hits: Counter[str] = Counter()
    for key in tensors:
        parts = key.split(".")
        hits.update(".".join([*parts[:i], ""]) for i in range(len(parts)) if ".".join(parts[i:]) in own)
    most = max(hits.values(), default=0)
    views = [(prefix, _under(prefix, tensors)) for prefix, count in hits.items() if 2 * count > most]
    for family in FAMILIES:
        for prefix in _prefixes(tensors, family.ANCHOR):
            state = _canonical(family, _under(prefix, tensors))
            if len(own.keys() & state.keys()) > hits[prefix]:
                views.append((prefix, state))
    for prefix, state in views:
        fitting = sum(key in state and state[key].shape == shape for key, shape in own.items())
        yield Guess(prefix, name, lambda: backbone, state, fitting)


def best(networks: Iterable[Guess], *, ema: bool, where: str) -> Guess | None:
    """The guess to load: the averaged weights with ``ema``, else the trained weights; a momentum copy comes last.

    Raises:
        InputError: two guesses are equally good.
    """
    ranked = sorted(((_rank(guess, ema), guess) for guess in networks), key=lambda pair: pair[0])
    if len(ranked) > 1 and ranked[0][0] == ranked[1][0]:
        names = ", ".join(repr(guess.prefix) for rank, guess in ranked if rank == ranked[0][0])
        raise InputError(f"{where} holds several networks, under {names}: choose one with ?prefix=.")
    return ranked[0][1] if ranked else None


def describe_families() -> str:
    """The architectures that are known by their tensors."""
    return ", ".join(family.NAME for family in FAMILIES)


def _rank(guess: Guess, ema: bool) -> tuple[int, int]:
    words = set(re.split(r"[._]", guess.prefix))
    copy, averaged = bool(words & COPY), bool(words & EMA)
    return copy + 2 * (averaged != ema), -guess.size


def _prefixes(names: Iterable[str], anchor: str) -> list[str]:
    matches = (re.fullmatch(rf"((?:.*?\.)?){anchor}", name) for name in names)
    return list(dict.fromkeys(match.group(1) for match in matches if match))


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _canonical(family: ModuleType, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = family.rename(list(state))
    return {renamed.get(name, name): value for name, value in state.items()}
