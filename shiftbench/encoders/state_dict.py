"""A stranger's state dict becomes an encoder: all of the backbone's tensors are loaded, or it is said which are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shiftbench.encoders.arch import Guess, best, describe_families, guesses, guesses_for
from shiftbench.encoders.backbones import Head, build_backbone
from shiftbench.encoders.base import Encoder, module_encoder
from shiftbench.encoders.preprocess import flag, preprocessing
from shiftbench.encoders.reading import read_tensors
from shiftbench.errors import InputError
from shiftbench.records import sha256
from shiftbench.runtime.console import say

CLASSIFIERS = (
    "fc",
    "linear",
    "classifier",
    "head",
    "heads.head",
    "head.fc",
    "output_net.2",
    "classifier.6",
    "last_linear",
)
START = (
    1_299_709  # seed of what a file does not fill; not one that an untrained network on disk would have started from
)
COUNTER = "num_batches_tracked"  # BatchNorm's own count of steps; no feature depends on it


@dataclass(frozen=True)
class Coverage:
    """How much of a backbone a file fills, by tensor names.

    Attributes:
        matched: tensors that were loaded.
        missing: tensors of the backbone that the file lacks.
        mismatched: tensors that have another shape in the file, with both shapes.
        unexpected: tensors of the file inside parts of the backbone that the backbone does not have.
        dropped: parts of the file that are no part of the backbone: heads, queues, momentum copies.

    Examples:
        >>> coverage = Coverage(("conv.weight",), ("fc.bias",), (), (), ("queue",))
        >>> coverage.complete, str(coverage)
        (False, '1 of 2 tensors; missing fc.bias; dropped queue')
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unexpected: tuple[str, ...]
    dropped: tuple[str, ...]

    @property
    def total(self) -> int:
        """Tensors that the backbone has."""
        return len(self.matched) + len(self.missing) + len(self.mismatched)

    @property
    def complete(self) -> bool:
        """Whether all of the backbone is filled, and nothing that should belong to it is left over."""
        return not (self.missing or self.mismatched or self.unexpected)

    def describe(self) -> dict[str, Any]:
        """Plain values for the results' provenance."""
        return {
            "coverage": str(self),
            "missing": [*self.missing, *self.mismatched],
            "dropped": list(self.dropped),
        }

    def __str__(self) -> str:
        kinds = {
            "missing": self.missing, "of another shape": self.mismatched, "unknown": self.unexpected,
            "dropped": self.dropped,
        }  # fmt: skip
        said = (f"{kind} {', '.join(names[:3])}{', …' * (len(names) > 3)}" for kind, names in kinds.items() if names)
        return "; ".join([f"{len(self.matched)} of {self.total} tensors", *said])


def load_state_dict(
    path: Path,
    *,
    device: torch.device,
    arch: str | None = None,
    prefix: str | None = None,
    ema: str | bool = True,
    allow_missing: str | bool = False,
    norm: str | None = None,
    size: str | int | None = None,
    crop: str | float | None = None,
    interpolation: str = "bilinear",
) -> Encoder:
    """Load a checkpoint file with the tensors of a network, whatever prefixes their names have.

    Its features are "backbone" (N, D), and "logits" where the file has the linear classifier that stands on it.

    Args:
        path: the file.
        device: where the encoder runs.
        arch: a registered backbone or ``package.module:Class``; None reads it off the tensors' names and shapes.
        prefix: what stands before the names of the network's tensors, where the file holds several networks.
        ema: prefer averaged weights (also DINO's teacher) to the last weights, where the file has both.
        allow_missing: load what fits and leave the rest at its random start.
        norm, size, crop, interpolation: as :func:`~shiftbench.encoders.preprocess.preprocessing` takes them.

    Raises:
        InputError: a file that is refused, whose network is unknown, or that does not fill the backbone.

    Examples:
        >>> from shiftbench.encoders.cifar_resnet import resnet8
        >>> wrapped = {f"module.{name}": value for name, value in resnet8().state_dict().items()}
        >>> torch.save({"state_dict": wrapped}, "weights.pt")
        >>> encoder = load_state_dict(Path("weights.pt"), device=torch.device("cpu"), norm="half")
        >>> encoder.origin["prefix"]
        'state_dict.module.'
    """
    where = repr(path.name)
    tensors = read_tensors(path)
    with torch.random.fork_rng(devices=[]):  # what is missing starts the same in every run
        torch.default_generator.manual_seed(START)
        guess = _choose(tensors, arch, prefix, flag("ema", ema), where)
        backbone = guess.build()
    only = getattr(backbone, "image_size", None)
    transform = preprocessing(where, norm=norm, size=size, crop=crop, interpolation=interpolation, default_size=only)
    before = _trial(backbone, transform.size, where)
    head_name, head = _classifier(guess, backbone)
    state = {key: value for key, value in guess.state.items() if not (head and key.startswith(f"{head_name}."))}
    coverage = fill(backbone, state, f"{where} as {guess.name}", flag("allow_missing", allow_missing))
    if torch.allclose(before, _trial(backbone, transform.size, where)):
        raise InputError(f"{where} changes nothing in {guess.name}: its features are those of random weights.")
    coverage = replace(coverage, dropped=coverage.dropped + _outside(tensors, guess.prefix))
    under = f" under {guess.prefix[:-1]}" if guess.prefix else ""
    say(f"{path.name}: {guess.name}{under}, {coverage}" + (f"; {head_name} gives logits" if head else ""))
    origin = {"sha256": sha256(path), "backbone": guess.name, "prefix": guess.prefix, **coverage.describe()}
    origin["classifier"] = head_name
    heads = {"logits": head} if head else {}
    name = Path(path.stem).stem if path.suffix == ".tar" else path.stem  # weights.pth.tar
    return module_encoder(name, backbone, transform, heads, device=device, default="backbone", origin=origin)


def fill(module: nn.Module, state: Mapping[str, torch.Tensor], where: str, allow_missing: bool = False) -> Coverage:
    """Load a module's tensors from a state dict, as float32, and return what fits and what does not.

    Raises:
        InputError: not all of the module, unless ``allow_missing``; or weights that are no finite floating-point numbers.

    Examples:
        >>> fill(nn.Linear(2, 1), {"weight": torch.ones(1, 2)}, "a file", allow_missing=True).missing
        ('bias',)
    """
    own = {name: value for name, value in module.state_dict().items() if not name.endswith(COUNTER)}
    given = {name: value for name, value in state.items() if not name.endswith(COUNTER)}
    parts = {name.partition(".")[0] for name in own}
    shared = [name for name in own if name in given]
    matched = [name for name in shared if given[name].shape == own[name].shape]
    misfits = [name for name in shared if given[name].shape != own[name].shape]
    left = [name for name in given if name not in own]
    coverage = Coverage(
        matched=tuple(matched),
        missing=tuple(name for name in own if name not in given),
        mismatched=tuple(f"{name} {tuple(given[name].shape)} for {tuple(own[name].shape)}" for name in misfits),
        unexpected=tuple(name for name in left if name.partition(".")[0] in parts),
        dropped=_groups(name for name in left if name.partition(".")[0] not in parts),
    )
    if not matched or not (coverage.complete or allow_missing):
        raise InputError(f"{where} matches {coverage}.")
    module.load_state_dict({name: _sound(name, given[name], where) for name in matched}, strict=False)
    return coverage


def _choose(tensors: Mapping[str, torch.Tensor], arch: str | None, prefix: str | None, ema: bool, where: str) -> Guess:
    backbone = None if arch is None else build_backbone(arch)
    networks = list(guesses(tensors) if backbone is None else guesses_for(backbone, str(arch), tensors))
    if prefix is not None:
        wanted = f".{prefix}".rstrip(".") + "."
        under = [guess for guess in networks if f".{guess.prefix}".endswith(wanted) and (prefix or not guess.prefix)]
        if networks and not under:
            known = ", ".join(repr(guess.prefix) for guess in networks)
            raise InputError(f"{where} has no network under prefix={prefix}, but under {known}.")
        networks = under
    guess = best(networks, ema=ema, where=where)
    if guess is not None:
        return guess
    some = ", ".join(f"{name} {tuple(value.shape)}" for name, value in list(tensors.items())[:3])
    if backbone is not None:
        own = ", ".join(list(backbone.state_dict())[:3])
        raise InputError(f"{where} holds nothing of {arch}: it has {some}, …; {arch} has {own}, ….")
    raise InputError(
        f"{where} is of no architecture that is known by its tensors ({len(tensors)}: {some}, …). Add ?arch= (`shiftbench list "
        f"backbones`, or package.module:Class). Known: {describe_families()}."
    )


def _classifier(guess: Guess, backbone: nn.Module) -> tuple[str, nn.Module | None]:
    """The linear layer of the file that stands where this architecture has its classifier."""
    own = set(backbone.state_dict())
    for name in CLASSIFIERS:
        weight, bias = (guess.state.get(f"{name}.{kind}") for kind in ("weight", "bias"))
        fits = weight is not None and weight.ndim == 2 and weight.shape[1] == backbone.feature_dim
        if fits and bias is not None and f"{name}.weight" not in own:
            assert weight is not None
            head = Head([weight.shape[1], weight.shape[0]])
            fill(head, {"0.weight": weight, "0.bias": bias}, name)
            return name, head
    return "", None


def _sound(name: str, tensor: torch.Tensor, where: str) -> torch.Tensor:
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or not tensor.is_floating_point():
        kind = "quantised" if tensor.is_quantized else str(tensor.dtype).removeprefix("torch.")
        raise InputError(f"{where}: {name} is {kind}, {tensor.layout}; dense floating-point weights are needed.")
    weights = tensor.float()
    if not bool(torch.isfinite(weights).all()):
        raise InputError(f"{where}: {name} holds NaN or infinite values. These weights have diverged or are damaged.")
    return weights


def _trial(backbone: nn.Module, size: int | None, where: str) -> torch.Tensor:
    """Features of two images of noise, of the size that the encoder will see."""
    images = torch.rand(2, 3, size or 32, size or 32, generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            features = backbone.eval()(images)
    except Exception as error:  # a user's own class may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(
            f"{where}: its network fails on images of {size or 32} pixels ({reason}). Add ?size=."
        ) from error
    if not isinstance(features, torch.Tensor) or features.shape != (2, backbone.feature_dim):
        output = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
        raise InputError(
            f"{where}: its network gives {output} for 2 images, not (2, feature_dim={backbone.feature_dim})."
        )
    return features


def _groups(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.partition(".")[0] for name in names))


def _outside(tensors: Mapping[str, torch.Tensor], prefix: str) -> tuple[str, ...]:
    """The parts of a file besides the chosen network, each by the shortest path that tells it apart."""
    chosen = prefix.split(".")[:-1]
    outside: dict[str, None] = {}
    for name in tensors:
        if not name.startswith(prefix):
            parts = name.split(".")
            pairs = zip([*parts, ""], [*chosen, "."], strict=False)
            shared = next(i for i, (part, other) in enumerate(pairs) if part != other)
            outside[".".join(parts[: shared + 1])] = None
    return tuple(outside)
