"""Everything that has a name, as ``name -> "module:attribute"``. Nothing is imported until it is used.

To add a corruption, trainer, metric, clusterer, data set, backbone, encoder source or report section, write its module
and add its line here. A user's own package adds lines through the entry-point group ``shiftbench.plugins`` (a callable
without arguments that calls :meth:`Registry.add`), or is named directly as ``package.module:attribute``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from math import inf
from typing import Any, TypeVar

from shiftbench.errors import InputError, unknown
from shiftbench.runtime.imports import import_target, import_typed


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


@dataclass(frozen=True)
class Metric(Entry):
    """A score, and all that evaluations, tables and reports need to know of it.

    Attributes:
        needs: what its function is called with, in this order:

            ``clean_features``: float32 (M, D), of the clean images that a shift is compared with. It comes first. A class
            as target is made of them once, and then called with the rest.
            ``table``: the :class:`~shiftbench.metrics.counts.Contingency` of classes and clusters.
            ``mapping``: int64 (K,), the class that each cluster stands for; None for the best one-to-one mapping.
            ``labels``: int64 (N,), the class of each image.
            ``partition``: int64 (N,), the cluster of each image, -1 for none.
            ``k``: the number of clusters that were asked for.
            ``features``: float32 (N, D), what was clustered.
            ``centers``: float32 (K, D), the means of the clusters on the clean training split.
            ``seed``: of whatever is random in it.
        higher_is_better: its direction.
        range: the lowest and the highest value it can have.
        batched: whether it takes all partitions at once, int64 (P, S, N), and returns float64 (P, S).

    Raises:
        InputError: it needs something else, or ``clean_features`` not first.
    """

    needs: tuple[str, ...] = ("table",)
    higher_is_better: bool = True
    range: tuple[float, float] = (-inf, inf)
    batched: bool = False

    def __post_init__(self) -> None:
        for need in self.needs:
            if need not in NEEDS:
                raise unknown("need of a metric", need, NEEDS)
        if "clean_features" in self.needs[1:]:
            raise InputError(f"needs={self.needs}: clean_features must come first.")
        object.__setattr__(self, "group", self._group())

    def _group(self) -> str:
        """What it describes: "labels", else "shift" where it looks at clean images too, "partition" or "features"."""
        if self.with_labels:
            return "labels"
        if self.of_shift:
            return "shift"
        return "features" if "features" in self.needs else "partition"

    @property
    def with_labels(self) -> bool:
        """Whether it compares with classes."""
        return not {"table", "labels"}.isdisjoint(self.needs)

    @property
    def of_table(self) -> bool:
        """Whether it follows from a table of classes and clusters, so that chance and resamples are known too."""
        return "table" in self.needs and {"table", "mapping"}.issuperset(self.needs)

    @property
    def of_shift(self) -> bool:
        """Whether it compares shifted images with clean ones, so that it is 0 where nothing has shifted."""
        return not {"centers", "clean_features"}.isdisjoint(self.needs)

    @property
    def of_partition(self) -> bool:
        """Whether there is a value for each partition; if not, there is one for all features of a condition."""
        return not {"table", "partition", "k", "centers"}.isdisjoint(self.needs)


NEEDS = ("clean_features", "table", "mapping", "labels", "partition", "k", "features", "centers", "seed")

AnyEntry = TypeVar("AnyEntry", bound=Entry)


class Registry(Mapping[str, AnyEntry]):
    """The names of one kind of thing, in the order they were added."""

    def __init__(self, kind: str, entries: Mapping[str, AnyEntry], entry: type[AnyEntry] | None = None) -> None:
        self.kind = kind
        self._entries = dict(entries)
        self._entry: type[Any] = entry or Entry

    def add(self, name: str, target: str, summary: str, group: str = "", **about: Any) -> None:
        """Register a name.

        Args:
            name: the new name.
            target: ``"package.module:attribute"``.
            summary: what it is, in a few words.
            group: an optional subset it belongs to.
            about: what this kind of entry knows besides; of a metric ``needs``, ``higher_is_better``, ``range``, ``batched``.

        Raises:
            InputError: the name is taken by another target.
        """
        known = self._entries.get(name)
        if known is not None and known.target != target:
            raise InputError(f"The {self.kind} {name!r} is already {known.target}; {target} needs another name.")
        self._entries[name] = self._entry(target, summary, group, **about)

    def load(self, name: str) -> Any:
        """Import and return what a name stands for; ``"package.module:attribute"`` names it directly.

        Raises:
            InputError: no such name (with the nearest one), or the module or attribute does not exist.
        """
        entry = self.get(name)
        if entry is None and ":" not in name:
            raise unknown(self.kind, name, self)
        return import_target(entry.target) if entry else import_typed(name)

    def names(self, group: str | None = None) -> list[str]:
        """All names, or those of one group."""
        return [name for name, entry in self.items() if group is None or entry.group == group]

    def __getitem__(self, name: str) -> AnyEntry:
        _load_plugins()
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        _load_plugins()
        return iter(self._entries)

    def __len__(self) -> int:
        _load_plugins()
        return len(self._entries)


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
    "idfd": Entry(f"{_METHOD}.idfd:IDFD", "instance discrimination and decorrelated features"),
    "drc": Entry(f"{_METHOD}.drc:DRC", "contrast of assignments, between images and between clusters"),
    "decl": Entry(f"{_METHOD}.decl:DECL", "contrast of images, with learned centres that sharpen themselves"),
    "npid": Entry(f"{_METHOD}.npid:NPID", "plain instance discrimination"),
    "simclr": Entry(f"{_METHOD}.simclr:SimCLR", "contrast of images"),
    "byol": Entry(f"{_METHOD}.byol:BYOL", "predict what a slow copy says about another view"),
    "cc": Entry(f"{_METHOD}.cc:CC", "contrast of images, and of clusters"),
    "pica": Entry(f"{_METHOD}.pica:PICA", "contrast of clusters alone: DRC without its contrast of images"),
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
_INTERNAL = "shiftbench.metrics.internal"
_SHARE, _POSITIVE = (0.0, 1.0), (0.0, inf)
_CLASSES = ("table", "mapping")
METRICS = Registry("metric", {
    "acc": Metric(
        f"{_EXTERNAL}:accuracy", "clustering accuracy: clusters matched to classes (Hungarian)", needs=_CLASSES, range=_SHARE
    ),
    "nmi": Metric(f"{_EXTERNAL}:nmi", "normalised mutual information, arithmetic mean", range=_SHARE),
    "ari": Metric(f"{_EXTERNAL}:ari", "adjusted Rand index", range=(-1.0, 1.0)),
    "ami": Metric(f"{_EXTERNAL}:ami", "adjusted mutual information, arithmetic mean", range=(-inf, 1.0)),
    "v_measure": Metric(f"{_EXTERNAL}:v_measure", "harmonic mean of homogeneity and completeness", range=_SHARE),
    "homogeneity": Metric(f"{_EXTERNAL}:homogeneity", "how far clusters hold one class only", range=_SHARE),
    "completeness": Metric(f"{_EXTERNAL}:completeness", "how far classes lie in one cluster only", range=_SHARE),
    "purity": Metric(f"{_EXTERNAL}:purity", "share of samples in their cluster's majority class", range=_SHARE),
    "mean_recall": Metric(f"{_EXTERNAL}:mean_recall", "recall of a class, mean over classes", needs=_CLASSES, range=_SHARE),
    "worst_class": Metric(f"{_EXTERNAL}:worst_class", "lowest recall of a class", needs=_CLASSES, range=_SHARE),
    "silhouette": Metric(
        f"{_INTERNAL}:silhouette", "how much nearer the own cluster is than the next",
        needs=("features", "partition", "seed"), range=(-1.0, 1.0), batched=True,
    ),
    "entropy": Metric(f"{_INTERNAL}:entropy", "evenness of the cluster sizes", needs=("partition", "k"), range=_SHARE),
    "collapsed": Metric(
        f"{_INTERNAL}:collapsed", "clusters that are next to empty",
        needs=("partition", "k"), range=_POSITIVE, higher_is_better=False,
    ),
    "drift": Metric(
        f"{_INTERNAL}:drift", "how far the frozen clusters' centres have moved",
        needs=("centers", "features", "partition"), range=_POSITIVE, higher_is_better=False,
    ),
    "frechet": Metric(
        f"{_INTERNAL}:FrechetReference", "Frechet distance from the clean features",
        needs=("clean_features", "features"), range=_POSITIVE, higher_is_better=False,
    ),
}, Metric)  # fmt: skip

_CLUSTERING = "shiftbench.clustering"
CLUSTERERS = Registry("clusterer", {
    "kmeans": Entry(f"{_CLUSTERING}.kmeans:KMeans", "k-means, k-means++ start, one start per seed"),
    "spherical": Entry(f"{_CLUSTERING}.spherical:SphericalKMeans", "k-means of directions: unit vectors, cosine"),
    "minibatch": Entry(f"{_CLUSTERING}.minibatch:MiniBatchKMeans", "k-means in batches of 6000, best of 20 starts"),
    "bisecting": Entry(f"{_CLUSTERING}.bisecting:BisectingKMeans", "2-means, again and again in the largest cluster"),
    "gmm": Entry(f"{_CLUSTERING}.mixture:GaussianMixture", "Gaussian mixture, diagonal covariances"),
    "ward": Entry(f"{_CLUSTERING}.hierarchical:Ward", "agglomerative, least growth of squared distances"),
    "average": Entry(f"{_CLUSTERING}.hierarchical:Average", "agglomerative, mean distance between members"),
    "birch": Entry(f"{_CLUSTERING}.birch:Birch", "subclusters in one pass over the images, then Ward"),
    "spectral": Entry(f"{_CLUSTERING}.spectral:Spectral", "eigenvectors of the nearest-neighbour graph"),
    "hdbscan": Entry(f"{_CLUSTERING}.density:HDBSCAN", "dense regions; the rest is noise, k an upper limit"),
})  # fmt: skip

_DATA = "shiftbench.data"
DATASETS = Registry("data set", {
    "digits": Entry(f"{_DATA}.digits:load", "1,797 handwritten digits, 32x32, shipped with scikit-learn"),
    "mnist": Entry(f"{_DATA}.mnist:load_mnist", "MNIST, 70,000 handwritten digits, 28x28, grey"),
    "usps": Entry(f"{_DATA}.mnist:load_usps", "USPS, 9,298 digits from envelopes, 16x16, grey"),
    "fashion_mnist": Entry(f"{_DATA}.mnist:load_fashion_mnist", "Fashion-MNIST, 70,000 garments, 28x28, grey"),
    "cifar10": Entry(f"{_DATA}.cifar:load_cifar10", "CIFAR-10, 60,000 natural images, 32x32"),
    "cifar100": Entry(f"{_DATA}.cifar:load_cifar100", "CIFAR-100, 60,000 natural images, 32x32"),
    "cifar100_20": Entry(f"{_DATA}.cifar:load_cifar100_20", "CIFAR-100 with its 20 superclasses"),
    "stl10": Entry(f"{_DATA}.stl:load_stl10", "STL-10, 13,000 labelled natural images, 96x96"),
    "tiny_imagenet": Entry(f"{_DATA}.imagenet:load_tiny_imagenet", "Tiny-ImageNet-200, 110,000 images, 64x64"),
    "imagenet": Entry(f"{_DATA}.imagenet:load_imagenet", "ImageNet-1k (ILSVRC2012), or classes of it"),
    "imagenet10": Entry(f"{_DATA}.imagenet:load_imagenet10", "ImageNet-10, ten classes of ImageNet"),
    "imagenet_dogs15": Entry(f"{_DATA}.imagenet:load_imagenet_dogs15", "ImageNet-Dogs-15, fifteen breeds of dogs"),
    "folder": Entry(f"{_DATA}.files:load_folder", "your images: PATH/[train|test]/CLASS/*.png"),
    "npz": Entry(f"{_DATA}.arrays:load_npz", "your arrays: an .npz with images (N, H, W, 3) and labels"),
})  # fmt: skip

_CORRUPTED, _NATURAL, _SYNTHETIC = (f"{_DATA}.{part}" for part in ("corrupted", "natural", "synthetic"))
SHIFTS = Registry("shift", {
    "clean": Entry(f"{_DATA}.shifts:clean", "the split as it is", "clean"),
    "corruption": Entry(f"{_CORRUPTED}:corruption", "15 common corruptions x 5 severities, made here", "corruption"),
    "cifar10_c": Entry(f"{_CORRUPTED}:cifar10_c", "the official CIFAR-10-C, or yours of that layout", "corruption"),
    "cifar100_c": Entry(f"{_CORRUPTED}:cifar100_c", "the official CIFAR-100-C", "corruption"),
    "imagenet_c": Entry(f"{_CORRUPTED}:imagenet_c", "the official ImageNet-C", "corruption"),
    "tiny_imagenet_c": Entry(f"{_CORRUPTED}:tiny_imagenet_c", "the official Tiny-ImageNet-C", "corruption"),
    "cifar10.1_v4": Entry(f"{_NATURAL}:cifar101_v4", "new test set of CIFAR-10, 2,021 images", "natural"),
    "cifar10.1_v6": Entry(f"{_NATURAL}:cifar101_v6", "new test set of CIFAR-10, 2,000 images, balanced", "natural"),
    "cifar10.2": Entry(f"{_NATURAL}:cifar102", "second new test set of CIFAR-10, 2,000 images", "natural"),
    "cinic10": Entry(f"{_NATURAL}:cinic10", "CIFAR-10's classes from ImageNet, 70,000 images", "natural"),
    "cifar10_jpeg": Entry(f"{_NATURAL}:cifar10_jpeg", "CIFAR-10's test images as JPEG of quality 75", "natural"),
    "stl10": Entry(f"{_NATURAL}:stl10", "STL-10 for CIFAR-10, 9 classes", "natural"),
    "cifar10": Entry(f"{_NATURAL}:cifar10", "CIFAR-10 for STL-10, 9 classes", "natural"),
    "mnist": Entry(f"{_NATURAL}:mnist", "MNIST for USPS and the digits", "natural"),
    "usps": Entry(f"{_NATURAL}:usps", "USPS for MNIST and the digits", "natural"),
    "digits": Entry(f"{_NATURAL}:digits", "scikit-learn's digits for MNIST and USPS", "natural"),
    "imagenet_v2_matched_frequency": Entry(
        f"{_NATURAL}:imagenet_v2_matched_frequency", "new test set of ImageNet, 10,000 images", "natural"
    ),
    "imagenet_v2_threshold0.7": Entry(
        f"{_NATURAL}:imagenet_v2_threshold", "the same with images that more people agree on", "natural"
    ),
    "imagenet_v2_top_images": Entry(
        f"{_NATURAL}:imagenet_v2_top_images", "the same with the images that most people agree on", "natural"
    ),
    "imagenet_r": Entry(f"{_NATURAL}:imagenet_r", "renditions of 200 classes of ImageNet", "natural"),
    "imagenet_a": Entry(f"{_NATURAL}:imagenet_a", "hard photographs of 200 classes of ImageNet", "natural"),
    "imagenet_o": Entry(f"{_NATURAL}:imagenet_o", "classes that ImageNet does not have, without labels", "natural"),
    "imagenet_sketch": Entry(f"{_NATURAL}:imagenet_sketch", "black and white sketches of ImageNet's classes", "natural"),
    "prior": Entry(f"{_SYNTHETIC}:prior", "other class shares, drawn from a Dirichlet distribution", "synthetic"),
    "subpopulation": Entry(f"{_SYNTHETIC}:subpopulation", "10 to 50 % of the classes dropped", "synthetic"),
    "resolution": Entry(f"{_SYNTHETIC}:resolution", "at 1.5 to 6 times fewer pixels a side, enlarged again", "synthetic"),
    "folder": Entry(f"{_DATA}.own:folder", "folder:PATH, your own images: PATH/CLASS/* or PATH/*", "own"),
    "npz": Entry(f"{_DATA}.own:npz", "npz:PATH, your own arrays: images, perhaps labels", "own"),
})  # fmt: skip

_NETWORK = "shiftbench.encoders"
BACKBONES = Registry("backbone", {
    "small_cnn": Entry(f"{_NETWORK}.backbones:small_cnn", "three convolutions and a linear layer, for digits on a CPU"),
    "resnet18_cifar": Entry(f"{_NETWORK}.resnet:resnet18_cifar", "ResNet-18 with the 3x3 stem for 32x32 images"),
    "resnet18": Entry(f"{_NETWORK}.resnet:resnet18", "ResNet-18, ImageNet stem"),
    "resnet34": Entry(f"{_NETWORK}.resnet:resnet34", "ResNet-34, ImageNet stem"),
    "resnet50": Entry(f"{_NETWORK}.resnet:resnet50", "ResNet-50, ImageNet stem"),
    "resnet8": Entry(f"{_NETWORK}.cifar_resnet:resnet8", "ResNet-8 of CIFAR, for a CPU"),
    "resnet18_narrow": Entry(f"{_NETWORK}.cifar_resnet:resnet18_narrow", "ResNet-18 of a quarter of the width, 3x3 stem"),
    "resnet20": Entry(f"{_NETWORK}.cifar_resnet:resnet20", "ResNet-20 of CIFAR, three stages"),
    "resnet32": Entry(f"{_NETWORK}.cifar_resnet:resnet32", "ResNet-32 of CIFAR, three stages"),
    "resnet44": Entry(f"{_NETWORK}.cifar_resnet:resnet44", "ResNet-44 of CIFAR, three stages"),
    "resnet56": Entry(f"{_NETWORK}.cifar_resnet:resnet56", "ResNet-56 of CIFAR, three stages"),
    "wrn28_10": Entry(f"{_NETWORK}.wide_resnet:wrn28_10", "WideResNet-28-10 of CIFAR"),
    "wrn40_2": Entry(f"{_NETWORK}.wide_resnet:wrn40_2", "WideResNet-40-2 of CIFAR"),
    "densenet_bc_100_12": Entry(f"{_NETWORK}.densenet:densenet_bc_100_12", "DenseNet-BC-100 of CIFAR, growth 12"),
    "vgg16_bn": Entry(f"{_NETWORK}.vgg:vgg16_bn", "VGG-16 with BatchNorm, ImageNet head"),
    "vit_small_patch16": Entry(f"{_NETWORK}.vit:vit_small_patch16", "ViT-S/16 at 224 pixels"),
    "vit_base_patch16": Entry(f"{_NETWORK}.vit:vit_base_patch16", "ViT-B/16 at 224 pixels"),
    "uvadlc_resnet20": Entry(f"{_NETWORK}.uvadlc:resnet20", "ResNet of the UvA tutorial 5"),
    "uvadlc_autoencoder64": Entry(f"{_NETWORK}.uvadlc:autoencoder64", "encoder of the UvA tutorial 9's autoencoder"),
})  # fmt: skip

_SOURCE = "shiftbench.encoders"
ENCODERS = Registry("encoder source", {
    "pixels": Entry(f"{_SOURCE}.floors:pixels", "raw pixels: the floor without any encoder"),
    "pca": Entry(f"{_SOURCE}.floors:pca", "pca:K, principal components of the clean training pixels"),
    "random": Entry(f"{_SOURCE}.floors:random", "random:BACKBONE, an untrained network: the floor without learning"),
    "file": Entry(f"{_SOURCE}.files:load", "a run folder of ours, or a .pt .pth .th .ckpt .safetensors state dict"),
    "exported": Entry(f"{_SOURCE}.exported:load", "an .onnx file; with trust=true a .pt2 archive or TorchScript"),
    "torchvision": Entry(f"{_SOURCE}.torchvision_zoo:load", "torchvision:NAME/WEIGHTS, resnet18/IMAGENET1K_V1"),
    "timm": Entry(f"{_SOURCE}.timm_zoo:load", "timm:NAME, resnet18.a1_in1k"),
    "robustbench": Entry(f"{_SOURCE}.robustbench_zoo:load", "robustbench:DATASET/THREAT/NAME, cifar10/corruptions/..."),
    "hf": Entry(f"{_SOURCE}.hf_zoo:load", "hf:ORG/NAME or hf:FOLDER, vision models of transformers"),
    "python": Entry(f"{_SOURCE}.callables:load_callable", "package.module:callable, images (N, 3, H, W) -> (N, D)"),
})  # fmt: skip

_REPORT = "shiftbench.reports"
SECTIONS = Registry("report section", {
    "verdict": Entry(f"{_REPORT}.verdict:SECTION", "what was found, in three sentences"),
    "overview": Entry(f"{_REPORT}.overview:SECTION", "all encoders in one table"),
    "severity": Entry(f"{_REPORT}.severity:SECTION", "scores by severity"),
    "refit": Entry(f"{_REPORT}.refit:SECTION", "frozen clusters beside refitted ones"),
    "conditions": Entry(f"{_REPORT}.conditions:SECTION", "every corruption at every severity"),
    "pairs": Entry(f"{_REPORT}.pairs:SECTION", "other pictures of the same classes"),
    "versus": Entry(f"{_REPORT}.versus:SECTION", "shifted score against clean score"),
    "probes": Entry(f"{_REPORT}.probes:SECTION", "clusters beside classifiers on the same features"),
    "stability": Entry(f"{_REPORT}.stability:SECTION", "how far runs and partitions agree"),
    "prediction": Entry(f"{_REPORT}.prediction:SECTION", "drop against agreement, which needs no labels"),
    "label_free": Entry(f"{_REPORT}.label_free:SECTION", "metrics without labels, and which of them follow the drop"),
    "pictures": Entry(f"{_REPORT}.pictures:SECTION", "what the clusters hold, and the corruptions"),
    "failures": Entry(f"{_REPORT}.failures:SECTION", "what was not measured, and why"),
    "provenance": Entry(f"{_REPORT}.provenance:SECTION", "encoders, data and evaluations behind the numbers"),
    "glossary": Entry(f"{_REPORT}.glossary:SECTION", "what every number means"),
    "cite": Entry(f"{_REPORT}.cite:SECTION", "what to name beside a number"),
})  # fmt: skip
