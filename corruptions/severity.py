"""The severity constants of the three published corruption sets and of the imagecorruptions package.

The published sets (Hendrycks & Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations") were made by a script for each image size, with constants of its own: ``imagenet`` (ImageNet-C, 224 px),
``tiny_imagenet`` (Tiny-ImageNet-C, 64 px) and ``cifar`` (CIFAR-10-C and CIFAR-100-C, 32 px). The package
``imagecorruptions`` has the ImageNet constants in different code. Numbers from different tables do not compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from shiftbench.errors import InputError, unknown

Row = tuple[float, ...]
Rows = tuple[Row, Row, Row, Row, Row]


@dataclass(frozen=True)
class SeverityTable:
    """A set of corrupted images whose severity constants are known: what the set fixes besides the constants.

    Attributes:
        name: the table's name.
        size: side in pixels of the images the set was made for.
        unit: side in pixels that the elastic constants are multiples of (ImageNet-C took 244 for 224).
        frost: factor by which frost textures are resized before they are cropped.
        published: True for the published scripts. They blur motion and snow with ImageMagick (edges repeated, rounded
            to 8 bit) and trim zoomed layers to their centre. False for imagecorruptions, which sums shifted images
            until the shift leaves the image, truncates, and keeps the top left corner of zoomed layers.

    Examples:
        >>> TABLES["cifar"].size
        32
    """

    name: str
    size: int
    unit: int
    frost: float
    published: bool = True


TABLES = {
    table.name: table
    for table in (
        SeverityTable("imagenet", size=224, unit=244, frost=1.0),
        SeverityTable("tiny_imagenet", size=64, unit=64, frost=0.3),
        SeverityTable("cifar", size=32, unit=32, frost=0.2),
        SeverityTable("imagecorruptions", size=224, unit=224, frost=1.1, published=False),
    )
}


def _scalars(*values: float) -> Rows:
    a, b, c, d, e = values
    return (a,), (b,), (c,), (d,), (e,)


# name -> table -> the five rows of constants. A table that is left out takes the "imagenet" rows. What the columns
# mean stands in each corruption's function.
CONSTANTS: dict[str, dict[str, Rows]] = {
    "gaussian_noise": {
        "imagenet": _scalars(0.08, 0.12, 0.18, 0.26, 0.38),
        "tiny_imagenet": _scalars(0.04, 0.08, 0.12, 0.15, 0.18),
        "cifar": _scalars(0.04, 0.06, 0.08, 0.09, 0.1),
    },
    "shot_noise": {
        "imagenet": _scalars(60, 25, 12, 5, 3),
        "tiny_imagenet": _scalars(250, 100, 50, 30, 15),
        "cifar": _scalars(500, 250, 100, 75, 50),
    },
    "impulse_noise": {
        "imagenet": _scalars(0.03, 0.06, 0.09, 0.17, 0.27),
        "tiny_imagenet": _scalars(0.01, 0.02, 0.05, 0.08, 0.14),
        "cifar": _scalars(0.01, 0.02, 0.03, 0.05, 0.07),
    },
    "speckle_noise": {
        "imagenet": _scalars(0.15, 0.2, 0.35, 0.45, 0.6),
        "tiny_imagenet": _scalars(0.15, 0.2, 0.25, 0.3, 0.35),
        "cifar": _scalars(0.06, 0.1, 0.12, 0.16, 0.2),
    },
    "defocus_blur": {
        "imagenet": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        "tiny_imagenet": ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
        "cifar": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    },
    "glass_blur": {
        "imagenet": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        "tiny_imagenet": ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
        "cifar": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    },
    "motion_blur": {
        "imagenet": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        "tiny_imagenet": ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
        "cifar": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    },
    "zoom_blur": {
        "imagenet": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
        "tiny_imagenet": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        "cifar": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    },
    "gaussian_blur": {
        "imagenet": _scalars(1, 2, 3, 4, 6),
        "tiny_imagenet": _scalars(0.5, 0.75, 1, 1.25, 1.5),
        "cifar": _scalars(0.4, 0.6, 0.7, 0.8, 1),
    },
    "snow": {
        "imagenet": (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        "tiny_imagenet": (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
        ),
        "cifar": (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    },
    "frost": {
        "imagenet": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        "tiny_imagenet": ((1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)),
        "cifar": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    },
    "fog": {
        "imagenet": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        "tiny_imagenet": ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
        "cifar": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    },
    "brightness": {
        "imagenet": _scalars(0.1, 0.2, 0.3, 0.4, 0.5),
        "tiny_imagenet": _scalars(0.1, 0.2, 0.3, 0.4, 0.5),
        "cifar": _scalars(0.05, 0.1, 0.15, 0.2, 0.3),
    },
    "spatter": {
        "imagenet": (
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ),
        "tiny_imagenet": (
            (0.62, 0.1, 0.7, 0.7, 0.6, 0),
            (0.65, 0.1, 0.8, 0.7, 0.6, 0),
            (0.65, 0.3, 1, 0.69, 0.6, 0),
            (0.65, 0.1, 0.7, 0.68, 0.6, 1),
            (0.65, 0.1, 0.5, 0.67, 0.6, 1),
        ),
        "cifar": (
            (0.62, 0.1, 0.7, 0.7, 0.5, 0),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0),
            (0.65, 0.3, 1, 0.69, 0.5, 0),
            (0.65, 0.1, 0.7, 0.69, 0.6, 1),
            (0.65, 0.1, 0.5, 0.68, 0.6, 1),
        ),
    },
    "contrast": {
        "imagenet": _scalars(0.4, 0.3, 0.2, 0.1, 0.05),
        "tiny_imagenet": _scalars(0.4, 0.3, 0.2, 0.1, 0.05),
        "cifar": _scalars(0.75, 0.5, 0.4, 0.3, 0.15),
    },
    # In multiples of SeverityTable.unit. imagecorruptions draws from +-0.005 sides, smooths by 0.01 sides, times 12.5 to 30.
    "elastic_transform": {
        "imagenet": ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
        "tiny_imagenet": (
            (0, 0, 0.08),
            (0.05, 0.3, 0.06),
            (0.1, 0.08, 0.06),
            (0.1, 0.03, 0.03),
            (0.16, 0.03, 0.02),
        ),
        "cifar": ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        "imagecorruptions": (
            (12.5 * 0.005, 0.01, 0),
            (16.25 * 0.005, 0.01, 0),
            (21.25 * 0.005, 0.01, 0),
            (25 * 0.005, 0.01, 0),
            (30 * 0.005, 0.01, 0),
        ),
    },
    "pixelate": {
        "imagenet": _scalars(0.6, 0.5, 0.4, 0.3, 0.25),
        "tiny_imagenet": _scalars(0.9, 0.8, 0.7, 0.6, 0.5),
        "cifar": _scalars(0.95, 0.9, 0.85, 0.75, 0.65),
    },
    "jpeg_compression": {
        "imagenet": _scalars(25, 18, 15, 10, 7),
        "tiny_imagenet": _scalars(65, 58, 50, 40, 25),
        "cifar": _scalars(80, 65, 58, 50, 40),
    },
    "saturate": {
        "imagenet": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
        "tiny_imagenet": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)),
        "cifar": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    },
}


def constants(name: str, severity: int, table: str) -> Row:
    """The row of constants of one corruption, severity (1..5) and table.

    Raises:
        InputError: the corruption has no constants.

    Examples:
        >>> constants("gaussian_noise", severity=3, table="cifar")
        (0.08,)
    """
    if name not in CONSTANTS:
        raise InputError(
            f"{name!r} has no severity constants; add its rows to shiftbench.corruptions.severity.CONSTANTS."
        )
    rows = CONSTANTS[name]
    return rows.get(table, rows["imagenet"])[severity - 1]


def resolve_table(table: str, size: int | tuple[int, int]) -> str:
    """The table that a name stands for at an image size.

    Args:
        table: a table's name, or ``"auto"``: the published set whose image size is nearest in ratio (32, 64 or 224 px,
            so up to 45 px ``cifar``, up to 119 px ``tiny_imagenet``). ``"auto"`` never means ``imagecorruptions``.
        size: side of the images in pixels, or (height, width), of which the shorter side counts.

    Raises:
        InputError: no such table, or a size that is not positive.

    Examples:
        >>> resolve_table("auto", 32), resolve_table("auto", (300, 224))
        ('cifar', 'imagenet')
    """
    if table != "auto":
        if table not in TABLES:
            raise unknown("severity table", table, ["auto", *TABLES])
        return table
    side = size if isinstance(size, int) else min(size)
    if side < 1:
        raise InputError(f"size must be positive, not {size}.")
    published = [entry for entry in TABLES.values() if entry.published]
    return min(published, key=lambda entry: abs(log(side / entry.size))).name
