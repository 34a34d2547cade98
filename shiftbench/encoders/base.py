"""What every encoder is: a callable from uint8 images to float32 features, wherever its weights come from."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn

from shiftbench.encoders.checks import unlike_training, unusual
from shiftbench.encoders.precision import DTYPES, channels_last, fast_copy
from shiftbench.encoders.preprocess import Preprocess
from shiftbench.encoders.taps import Feature, Taps, choose_features, only_output
from shiftbench.errors import InputError, unknown
from shiftbench.images import Images

AnyEncoder = TypeVar("AnyEncoder", bound="Encoder")


class Encoder:
    """Images in, features out.

    Args:
        name: what tables call it.
        compute: uint8 (N, 3, H, W) -> ``{feature name: (N, D)}``.
        feature_names: the keys of what ``compute`` returns, the default first.
        fingerprint: changes whenever the features would (a hash of weights and preprocessing).
        train_seed: the seed it was trained with, if it was trained here.
        selection: which epoch's weights these are: "last", or "oracle" where labels chose the epoch.
        origin: what else is known of it, for the results' provenance: where its weights come from (``sha256``), its
            ``backbone``, its ``preprocess``.

    Attributes:
        dtype: the arithmetic of its network, "float32" or "bfloat16"; features are float32 in any case.
        pinned: whether the user asked for that arithmetic (:func:`shiftbench.encoders.settle.settle`).
        castable: whether :meth:`with_dtype` can change the arithmetic.
        caution: what every row of its scores must say; mostly nothing.
        device: where it computes.
        traceable: whether the fingerprint tells all that its features depend on, so that the features can be kept.
        needs_fit: whether :meth:`fit` makes it from images, anew for each data set, before it encodes.

    Examples:
        >>> means = Encoder("means", lambda images: {"backbone": images.float().mean((2, 3))}, fingerprint="1")
        >>> means(torch.full((1, 3, 8, 8), 7, dtype=torch.uint8))
        tensor([[7., 7., 7.]])
    """

    castable = False
    needs_fit = False
    traceable = True

    def __init__(
        self,
        name: str,
        compute: Callable[[torch.Tensor], Mapping[str, torch.Tensor]],
        *,
        fingerprint: str,
        feature_names: Sequence[str] = ("backbone",),
        train_seed: int | None = None,
        selection: str = "last",
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self._compute = compute
        self._fingerprint = fingerprint
        self._own = tuple(Feature(source) for source in feature_names)
        self._features = self._own
        self.train_seed = train_seed
        self.selection = selection
        self.origin = dict(origin or {})
        self.dtype = "float32"
        self.pinned = False
        self.caution = ""
        self.device = torch.device("cpu")

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The keys of what :meth:`features` returns, the default first."""
        return tuple(feature.name for feature in self._features)

    @property
    def fingerprint(self) -> str:
        """Changes whenever the features would: weights, preprocessing, the choice of features, arithmetic."""
        selected = [] if self._features == self._own else [feature.name for feature in self._features]
        if self.dtype == "float32" and not selected:
            return self._fingerprint
        return hashlib.sha256(json.dumps([self._fingerprint, self.dtype, selected]).encode()).hexdigest()

    def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """All features of a batch.

        Args:
            images: uint8 (N, 3, H, W).

        Returns:
            ``{name: float32 (N, D)}`` on the CPU. The features of an image do not depend on the rest of the batch,
            beyond the rounding of the arithmetic.

        Raises:
            InputError: images that are not uint8 (N, 3, H, W), or an encoder that does not return (N, D).

        Examples:
            >>> means = Encoder("means", lambda images: {"backbone": images.float().mean((2, 3))}, fingerprint="1")
            >>> means.features(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))["backbone"].shape
            torch.Size([2, 3])
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"images must be uint8 (N, 3, H, W), not {images.dtype} {tuple(images.shape)}.")
        with torch.inference_mode():
            sources = self._sources(images)
            features = {feature.name: feature.of(sources[feature.source]).cpu() for feature in self._features}
        for key, value in features.items():
            if value.ndim != 2 or len(value) != len(images):
                pool = " Name a pooling: pool=avg, max, cls or flatten." if value.ndim in (3, 4) else ""
                raise InputError(
                    f"Encoder {self.name!r} returned {key} of shape {tuple(value.shape)} for {len(images)} images; "
                    f"({len(images)}, D) is needed.{pool}"
                )
        return features

    def feature_name(self, asked: str = "auto") -> str:
        """The feature called ``asked``; the default where this encoder has no feature of that name."""
        return asked if asked in self.feature_names else self.feature_names[0]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """The default feature of a batch: uint8 (N, 3, H, W) -> float32 (N, D)."""
        return self.features(images)[self.feature_name()]

    def select(self: AnyEncoder, features: Sequence[str] = (), *, pool: str = "", l2: bool = False) -> AnyEncoder:
        """The same encoder with other features; the first name is its default.

        Args:
            features: its own features or, of a torch network, also layers by their names in ``named_modules``
                (``layer3``, ``blocks.5``); empty for all of its own features.
            pool: how maps (N, C, H, W) and tokens (N, T, C) become (N, D): "avg" (the default of layers), "max", "cls"
                (the first token), "flatten" or "none".
            l2: scale features to unit length.

        Raises:
            InputError: no such feature, layer or pooling.

        Examples:
            >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            >>> encoder = module_encoder("small", network, Preprocess((0.5,) * 3, (0.5,) * 3), device=torch.device("cpu"))
            >>> encoder.select(["0", "backbone"], pool="max", l2=True).feature_names
            ('0+max+l2', 'backbone+l2')
        """
        own = [feature.source for feature in self._own]
        selected = copy.copy(self)
        selected._features = tuple(choose_features(features, pool, l2, own, self._layers()))
        return selected

    def with_dtype(self: AnyEncoder, dtype: str) -> AnyEncoder:
        """The same encoder in another arithmetic, "float32" or "bfloat16".

        Raises:
            InputError: an unknown arithmetic, or an encoder without a torch network whose arithmetic could change.

        Examples:
            >>> encoder = module_encoder("flat", nn.Flatten(), Preprocess((0.5,) * 3, (0.5,) * 3), device=torch.device("cpu"))
            >>> encoder.with_dtype("bfloat16").dtype
            'bfloat16'
        """
        if dtype not in DTYPES[1:]:
            raise unknown("dtype", dtype, DTYPES[1:])
        if dtype != self.dtype and not self.castable:
            raise InputError(f"{self.name} has an arithmetic of its own and takes no dtype={dtype}.")
        cast = copy.copy(self)
        cast.dtype = dtype
        return cast

    def fit(self: AnyEncoder, images: Images) -> AnyEncoder:
        """Make it from the clean training images uint8 (N, 3, H, W), where ``needs_fit`` is true. Returns itself."""
        return self

    def check(self, images: torch.Tensor) -> list[str]:
        """What looks wrong about the features of clean images, a line each; empty where nothing does.

        Told are features that are not finite, constant, or the same for all images, and inputs unlike those that the
        network's first BatchNorm was trained on, as they come from a wrong ``norm=``.

        Args:
            images: uint8 (N, 3, H, W), at least 16 different images of the kind that the encoder is meant for.

        Examples:
            >>> ones = Encoder("ones", lambda images: {"backbone": torch.ones(len(images), 4)}, fingerprint="1")
            >>> ones.check(torch.randint(256, (16, 3, 8, 8), dtype=torch.uint8))
            ['ones: backbone is the same for all images']
        """
        return [f"{self.name}: {line}" for line in unusual(self.features(images))]

    def _sources(self, images: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """The outputs that features are made of, by source."""
        return self._compute(images)

    def _layers(self) -> list[str]:
        """Names of layers that can be features too."""
        return []


class ModuleEncoder(Encoder):
    """A torch backbone with its preprocessing, heads on top of it and layers inside it; see :func:`module_encoder`.

    Examples:
        >>> encoder = module_encoder("flat", nn.Flatten(), Preprocess((0.5,) * 3, (0.5,) * 3), device=torch.device("cpu"))
        >>> isinstance(encoder, ModuleEncoder), encoder.castable
        (True, True)
    """

    castable = True

    def __init__(
        self,
        name: str,
        backbone: nn.Module,
        preprocess: Preprocess,
        heads: Mapping[str, nn.Module],
        feature_names: Sequence[str],
        *,
        device: torch.device,
        **about: Any,
    ) -> None:
        modules = nn.ModuleList([preprocess, backbone, nn.ModuleDict(heads)]).to(device).eval()
        self.backbone = channels_last(backbone)
        self.preprocess, self.heads = preprocess, dict(heads)
        described = json.dumps(preprocess.describe())
        fingerprint = hashlib.sha256((weights_hash(modules) + described).encode()).hexdigest()
        super().__init__(name, self._sources, fingerprint=fingerprint, feature_names=feature_names, **about)
        self.device = device
        self.origin.setdefault("preprocess", preprocess.describe())
        self._running, self._taps = self.backbone, Taps(self.backbone, ())

    def select(self, features: Sequence[str] = (), *, pool: str = "", l2: bool = False) -> ModuleEncoder:
        """See :meth:`Encoder.select`."""
        selected = super().select(features, pool=pool, l2=l2)
        selected._taps = Taps(self.backbone, selected._tapped())
        return selected.with_dtype(self.dtype)

    def with_dtype(self, dtype: str) -> ModuleEncoder:
        """See :meth:`Encoder.with_dtype`."""
        cast = super().with_dtype(dtype)
        cast._running = self.backbone if dtype == "float32" else fast_copy(self.backbone, keep=self._tapped())
        return cast

    def check(self, images: torch.Tensor) -> list[str]:
        """See :meth:`Encoder.check`."""
        inputs = unlike_training(self.backbone, self.preprocess, images)
        return super().check(images) + [f"{self.name}: {line}" for line in inputs]

    def _sources(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        moved = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        pixels = self.preprocess(moved)
        arithmetic: AbstractContextManager[Any] = nullcontext()
        if self.dtype == "bfloat16":
            arithmetic = torch.autocast(self.device.type, dtype=torch.bfloat16)
        with arithmetic, self._taps() as seen:
            hidden = self._running(pixels)
        wanted = {feature.source for feature in self._features}
        sources = {name: only_output(seen, name) for name in self._tapped()}
        sources |= {name: head(hidden.float()) for name, head in self.heads.items() if name in wanted}
        return sources | ({"backbone": hidden} if "backbone" in wanted else {})

    def _tapped(self) -> list[str]:
        own = {"backbone", *self.heads}
        return list(dict.fromkeys(feature.source for feature in self._features if feature.source not in own))

    def _layers(self) -> list[str]:
        return [name for name, _ in self.backbone.named_modules() if name]


def module_encoder(
    name: str,
    backbone: nn.Module,
    preprocess: Preprocess,
    heads: Mapping[str, nn.Module] | None = None,
    *,
    device: torch.device,
    default: str | None = None,
    **about: Any,
) -> ModuleEncoder:
    """Wrap a torch backbone (and heads on top of it) as an :class:`Encoder` on a device, in float32.

    Weights keep their values and go into the channels_last layout; BatchNorm uses its running statistics.

    Args:
        name: what tables call it.
        backbone: normalised float (N, 3, H, W) -> (N, D).
        preprocess: makes these inputs of uint8 images.
        heads: (N, D) -> (N, D'), by name.
        device: where it runs.
        default: the feature that is used unless another is asked for; None takes the first head, or the backbone
            where there are no heads.
        about: further arguments of :class:`Encoder`.

    Examples:
        >>> encoder = module_encoder("flat", nn.Flatten(), Preprocess((0.5,) * 3, (0.5,) * 3), device=torch.device("cpu"))
        >>> encoder(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).shape
        torch.Size([2, 192])
    """
    heads = dict(heads or {})
    names = sorted((*heads, "backbone"), key=lambda feature: feature != (default or feature))
    return ModuleEncoder(name, backbone, preprocess, heads, names, device=device, **about)


def weights_hash(module: nn.Module) -> str:
    """sha256 over names, shapes and values of all parameters and buffers, saved or not.

    Examples:
        >>> layer = nn.Linear(2, 1)
        >>> before = weights_hash(layer)
        >>> _ = layer.weight.data.add_(1)
        >>> weights_hash(layer) == before
        False
    """
    digest = hashlib.sha256()
    for key, tensor in [*module.named_parameters(), *module.named_buffers()]:
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def pick_device(device: str) -> torch.device:
    """The torch device of a name; ``"auto"`` is the CUDA device where there is one, else the CPU.

    Raises:
        InputError: a device that does not exist here.

    Examples:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"Unknown device {device!r}: use auto, cpu, cuda or cuda:0.") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device={device} was asked for, and torch sees no CUDA device here. Use device=cpu.")
    return chosen
