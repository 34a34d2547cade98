"""Which network a stranger's tensors belong to: found by their names and shapes, wherever they lie in the file.

Checkpoints wrap a network's tensors in prefixes (``state_dict.module.encoder_q.``) and give them the names of one of
several code bases. So every prefix under which a known network could lie is a candidate, and the best one wins. What
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
class Candidate:
    """A network that the file may hold.

    Attributes:
        prefix: what stands before its tensors' names in the file.
        name: the architecture.
        build: makes it with fresh weights.
        state: the tensors under the prefix, in the names of the architecture.
        size: how many of them belong to it, as far as names and shapes tell.
    """

    prefix: str
    name: str
    build: Callable[[], nn.Module]
    state: Mapping[str, torch.Tensor]
    size: int


def candidates(tensors: Mapping[str, torch.Tensor]) -> Iterator[Candidate]:
    """Networks of the known families in a file."""
    for family in FAMILIES:
        for prefix in _prefixes(tensors, family.ANCHOR):
            state = _canonical(family, _under(prefix, tensors))
            found = family.infer({name: tuple(value.shape) for name, value in state.items()})
            if found is not None:
                name, build = found
                yield Candidate(prefix, name, build, state, len(state))


def candidates_for(backbone: nn.Module, name: str, tensors: Mapping[str, torch.Tensor]) -> Iterator[Candidate]:
    """Places in a file where a given network may lie: under its own names, or those of a family."""
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
        yield Candidate(prefix, name, lambda: backbone, state, fitting)


def best(found: Iterable[Candidate], *, ema: bool, where: str) -> Candidate | None:
    """The candidate to load: the averaged weights if ``ema``, else the trained ones; never a momentum copy unasked.

    Raises:
        InputError: two are equally good.
    """
    ranked = sorted(((_rank(each, ema), each) for each in found), key=lambda pair: pair[0])
    if len(ranked) > 1 and ranked[0][0] == ranked[1][0]:
        names = ", ".join(repr(each.prefix) for rank, each in ranked if rank == ranked[0][0])
        raise InputError(f"{where} holds several networks, under {names}: choose one with ?prefix=.")
    return ranked[0][1] if ranked else None


def describe_families() -> str:
    """The architectures that are found by themselves."""
    return ", ".join(family.NAME for family in FAMILIES)


def _rank(candidate: Candidate, ema: bool) -> tuple[int, int]:
    words = set(re.split(r"[._]", candidate.prefix))
    copy, averaged = bool(words & COPY), bool(words & EMA)
    return copy + 2 * (averaged != ema), -candidate.size


def _prefixes(names: Iterable[str], anchor: str) -> list[str]:
    found = (re.fullmatch(rf"((?:.*?\.)?){anchor}", name) for name in names)
    return list(dict.fromkeys(match.group(1) for match in found if match))


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _canonical(family: ModuleType, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = family.rename(list(state))
    return {renamed.get(name, name): value for name, value in state.items()}
