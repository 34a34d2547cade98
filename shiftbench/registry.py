"""Everything that has a name, as ``name -> "module:attribute"``. Nothing is imported until it is used.

To add a corruption, trainer, metric, clusterer, data set, backbone or encoder source, write its module and add its
line here. A user's own package adds lines through the entry-point group ``shiftbench.plugins`` (a callable without
arguments that calls :meth:`Registry.add`), or is named directly as ``package.module:attribute``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from shiftbench.errors import InputError, unknown


@dataclass(frozen=True)
class Entry:
    """One registered name.

    Attributes:
        target: where it is defined, ``"package.module:attribute"``.
        summary: what it is, in a few words (``shiftbench list``).
        group: an optional subset it belongs to.
    """

    target: str
    summary: str
    group: str = ""


class Registry(Mapping[str, Entry]):
    """The names of one kind of thing, in the order they were added."""

    def __init__(self, kind: str, entries: Mapping[str, Entry]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def add(self, name: str, target: str, summary: str, group: str = "") -> None:
        """Register a name.

        Raises:
            InputError: the name is taken by another target.
        """
        known = self._entries.get(name)
        if known is not None and known.target != target:
            raise InputError(f"The {self.kind} {name!r} is already {known.target}; {target} needs another name.")
        self._entries[name] = Entry(target, summary, group)

    def load(self, name: str) -> Any:
        """Import and return what a name stands for; ``"package.module:attribute"`` names it directly.

        Raises:
            InputError: no such name (with the nearest one), or the module or attribute does not exist.
        """
        entry = self.get(name)
        if entry is None and ":" not in name:
            raise unknown(self.kind, name, self)
        return import_target(entry.target if entry else name)

    def names(self, group: str | None = None) -> list[str]:
        """All names, or those of one group."""
        return [name for name, entry in self.items() if group is None or entry.group == group]

    def __getitem__(self, name: str) -> Entry:
        _load_plugins()
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        _load_plugins()
        return iter(self._entries)

    def __len__(self) -> int:
        _load_plugins()
        return len(self._entries)


def import_target(target: str) -> Any:
    """Import ``"package.module:attribute"``.

    Raises:
        InputError: the module or the attribute does not exist.
    """
    module, _, attribute = target.partition(":")
    try:
        imported = import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"Cannot import {target!r}: there is no module {error.name!r}.") from error
    except Exception as error:  # a stranger's module may raise anything
        raise InputError(f"Cannot import {target!r}: {type(error).__name__}: {error}") from error
    try:
        return getattr(imported, attribute)
    except AttributeError as error:
        raise InputError(f"Cannot import {target!r}: module {module!r} has no attribute {attribute!r}.") from error


_plugins = {"waiting"}


def _load_plugins() -> None:
    """Let each installed plugin add its names, once; a plugin may read registries while it does."""
    if not _plugins:
        return
    _plugins.clear()
    for plugin in entry_points(group="shiftbench.plugins"):
        try:
            plugin.load()()
        except Exception as error:  # a stranger's code
            raise InputError(f"The plugin {plugin.value!r} failed: {type(error).__name__}: {error}") from error


_METHOD = "shiftbench.trainers"
METHODS = Registry("method", {
    "concurl": Entry(f"{_METHOD}.concurl:ConCURL", "consensus over random projections of the embedding space"),
})  # fmt: skip

_NOISE, _BLUR = "shiftbench.corruptions.noise", "shiftbench.corruptions.blur"
_WEATHER, _DIGITAL = "shiftbench.corruptions.weather", "shiftbench.corruptions.digital"
CORRUPTIONS = Registry("corruption", {
    "gaussian_noise": Entry(f"{_NOISE}:gaussian_noise", "additive normal noise", "common"),
    "shot_noise": Entry(f"{_NOISE}:shot_noise", "Poisson photon noise", "common"),
    "impulse_noise": Entry(f"{_NOISE}:impulse_noise", "salt and pepper", "common"),
    "defocus_blur": Entry(f"{_BLUR}:defocus_blur", "disk-shaped blur of a lens out of focus", "common"),
    "glass_blur": Entry(f"{_BLUR}:glass_blur", "pixels displaced locally, as behind frosted glass", "common"),
    "motion_blur": Entry(f"{_BLUR}:motion_blur", "blur along one random direction", "common"),
    "zoom_blur": Entry(f"{_BLUR}:zoom_blur", "mean over a zoom towards the centre", "common"),
    "snow": Entry(f"{_WEATHER}:snow", "motion-blurred flakes over a whitened image", "common"),
    "frost": Entry(f"{_WEATHER}:frost", "a photographed frost texture laid over the image", "common"),
    "fog": Entry(f"{_WEATHER}:fog", "a plasma-fractal haze", "common"),
    "brightness": Entry(f"{_WEATHER}:brightness", "HSV value raised", "common"),
    "contrast": Entry(f"{_DIGITAL}:contrast", "values pulled towards the channel mean", "common"),
    "elastic_transform": Entry(f"{_DIGITAL}:elastic_transform", "a smooth random warp", "common"),
    "pixelate": Entry(f"{_DIGITAL}:pixelate", "down-sampled and enlarged again", "common"),
    "jpeg_compression": Entry(f"{_DIGITAL}:jpeg_compression", "JPEG at low quality", "common"),
    "speckle_noise": Entry(f"{_NOISE}:speckle_noise", "multiplicative normal noise", "extra"),
    "gaussian_blur": Entry(f"{_BLUR}:gaussian_blur", "Gaussian low-pass", "extra"),
    "spatter": Entry(f"{_WEATHER}:spatter", "drops of water or mud on the lens", "extra"),
    "saturate": Entry(f"{_DIGITAL}:saturate", "HSV saturation scaled and shifted", "extra"),
})  # fmt: skip

_EXTERNAL = "shiftbench.metrics.external"
METRICS = Registry("metric", {
    "acc": Entry(f"{_EXTERNAL}:accuracy", "clustering accuracy: clusters matched to classes (Hungarian)"),
    "nmi": Entry(f"{_EXTERNAL}:nmi", "normalised mutual information, arithmetic mean"),
    "ari": Entry(f"{_EXTERNAL}:ari", "adjusted Rand index"),
    "ami": Entry(f"{_EXTERNAL}:ami", "adjusted mutual information, arithmetic mean"),
    "purity": Entry(f"{_EXTERNAL}:purity", "share of samples in their cluster's majority class"),
})  # fmt: skip

CLUSTERERS = Registry("clusterer", {
    "kmeans": Entry("shiftbench.clustering.kmeans:KMeans", "k-means, k-means++ start, one start per seed"),
})  # fmt: skip

_DATA = "shiftbench.data"
DATASETS = Registry("data set", {
    "digits": Entry(f"{_DATA}.digits:load", "1,797 handwritten digits, 32x32, shipped with scikit-learn"),
    "cifar10": Entry(f"{_DATA}.cifar:load_cifar10", "CIFAR-10, 60,000 natural images, 32x32"),
    "folder": Entry(f"{_DATA}.files:load_folder", "your images: PATH/[train|test]/CLASS/*.png"),
    "npz": Entry(f"{_DATA}.files:load_npz", "your arrays: an .npz with images (N, H, W, 3) and labels"),
})  # fmt: skip

SHIFTS = Registry("shift", {
    "clean": Entry(f"{_DATA}.shifts:clean", "the split as it is"),
    "corruption": Entry(f"{_DATA}.shifts:corruption", "15 common corruptions x 5 severities (paired)"),
})  # fmt: skip

_BACKBONE = "shiftbench.encoders.backbones"
BACKBONES = Registry("backbone", {
    "small_cnn": Entry(f"{_BACKBONE}:small_cnn", "three convolutions and a linear layer, for digits on a CPU"),
    "resnet18_cifar": Entry(f"{_BACKBONE}:resnet18_cifar", "ResNet-18 with the 3x3 stem for 32x32 images"),
    "resnet18": Entry(f"{_BACKBONE}:resnet18", "ResNet-18, ImageNet stem"),
    "resnet50": Entry(f"{_BACKBONE}:resnet50", "ResNet-50, ImageNet stem"),
})  # fmt: skip

_SOURCE = "shiftbench.encoders"
ENCODERS = Registry("encoder source", {
    "pixels": Entry(f"{_SOURCE}.floors:pixels", "raw pixels: the floor without any encoder"),
    "random": Entry(f"{_SOURCE}.floors:random", "random:BACKBONE, an untrained network: the floor without learning"),
    "file": Entry(f"{_SOURCE}.files:load", "a run folder of ours, or a .pt .pth .th .ckpt .safetensors state dict"),
    "python": Entry(f"{_SOURCE}.files:load_callable", "package.module:callable, images (N, 3, H, W) -> (N, D)"),
})  # fmt: skip
