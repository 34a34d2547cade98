"""The constants: equal to the package they are named after, and to the published tables where those differ."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from shiftbench.corruptions import TABLES, resolve_table
from shiftbench.corruptions.severity import CONSTANTS, constants
from shiftbench.errors import InputError
from shiftbench.registry import CORRUPTIONS

# Severity 5 as published: (cifar, tiny_imagenet, imagenet).
HARDEST = {
    "gaussian_noise": ((0.1,), (0.18,), (0.38,)),
    "shot_noise": ((50,), (15,), (3,)),
    "impulse_noise": ((0.07,), (0.14,), (0.27,)),
    "defocus_blur": ((1.5, 0.1), (3, 0.1), (10, 0.5)),
    "glass_blur": ((0.4, 1, 2), (0.9, 2, 2), (1.5, 4, 2)),
    "motion_blur": ((9, 2.5), (12, 3), (20, 15)),
    "zoom_blur": ((1.26, 0.01), (1.26, 0.01), (1.31, 0.03)),
    "snow": ((0.3, 0.3, 1.25, 0.65, 14, 12, 0.8), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55)),
    "frost": ((0.75, 0.45), (0.7, 0.55), (0.6, 0.75)),
    "fog": ((1.5, 1.75), (2, 1.75), (3, 1.4)),
    "brightness": ((0.3,), (0.5,), (0.5,)),
    "contrast": ((0.15,), (0.05,), (0.05,)),
    "elastic_transform": ((0.1, 0.03, 0.03), (0.16, 0.03, 0.02), (0.12, 0.01, 0.02)),
    "pixelate": ((0.65,), (0.5,), (0.25,)),
    "jpeg_compression": ((40,), (25,), (7,)),
    "speckle_noise": ((0.2,), (0.35,), (0.6,)),
    "gaussian_blur": ((1,), (1.5,), (6,)),
    "spatter": ((0.65, 0.1, 0.5, 0.68, 0.6, 1), (0.65, 0.1, 0.5, 0.67, 0.6, 1), (0.67, 0.4, 1, 0.65, 1.5, 1)),
    "saturate": ((2.5, 0.2), (30, 0.2), (20, 0.2)),
}  # fmt: skip


def package_constants() -> dict[str, list[object]]:
    """The list ``c`` at the top of each function of imagecorruptions, read from its source."""
    spec = importlib.util.find_spec("imagecorruptions")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / "corruptions.py").read_text())
    found = {}
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
                text = ast.unparse(node.value.value)
                if ast.unparse(node.targets[0]) in ("c", "alpha") and text.startswith("["):
                    found[function.name] = eval(text, {"np": np})
    return found


@pytest.mark.parametrize("name", HARDEST)
def test_imagecorruptions_has_the_packages_constants(name: str) -> None:
    ours = [constants(name, severity, "imagecorruptions") for severity in range(1, 6)]
    theirs = package_constants()[name]
    if name == "zoom_blur":
        ours = [np.arange(1, *row) for row in ours]
    elif name == "elastic_transform":  # theirs is the factor of a field drawn from +-0.005 sides
        ours, theirs = [row[0] for row in ours], [0.005 * alpha for alpha in theirs]
    for mine, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.ravel(mine), np.ravel(their), rtol=1e-12)


@pytest.mark.parametrize("name", HARDEST)
def test_published_tables(name: str) -> None:
    assert tuple(constants(name, 5, table) for table in ("cifar", "tiny_imagenet", "imagenet")) == HARDEST[name]


@pytest.mark.parametrize("name", CORRUPTIONS.names())
@pytest.mark.parametrize("table", TABLES)
def test_every_table_has_five_rows_of_one_length(name: str, table: str) -> None:
    rows = [constants(name, severity, table) for severity in range(1, 6)]
    assert len({len(row) for row in rows}) == 1
    assert len(set(rows)) == 5


def test_zoom_factors_of_the_published_sets() -> None:
    counts = {t: [len(np.arange(1, *row)) for row in CONSTANTS["zoom_blur"][t]] for t in ("cifar", "imagenet")}
    assert counts == {"cifar": [7, 12, 16, 21, 26], "imagenet": [12, 16, 11, 13, 11]}


@pytest.mark.parametrize(
    ("size", "table"),
    [
        (28, "cifar"),
        (32, "cifar"),
        (45, "cifar"),
        (46, "tiny_imagenet"),
        (64, "tiny_imagenet"),
        (119, "tiny_imagenet"),
        (120, "imagenet"),
        (224, "imagenet"),
        ((480, 32), "cifar"),
    ],
)
def test_auto_takes_the_nearest_published_size(size: int | tuple[int, int], table: str) -> None:
    assert resolve_table("auto", size) == table


@pytest.mark.parametrize("table", TABLES)
def test_a_named_table_is_itself_at_any_size(table: str) -> None:
    assert resolve_table(table, 8) == resolve_table(table, 4000) == table


def test_unknown_table() -> None:
    with pytest.raises(InputError, match=r"Unknown severity table 'cifer'. Did you mean 'cifar'"):
        resolve_table("cifer", 32)


def test_size_must_be_positive() -> None:
    with pytest.raises(InputError, match="size must be positive, not 0"):
        resolve_table("auto", 0)


def test_a_corruption_without_constants_says_where_to_put_them() -> None:
    with pytest.raises(InputError, match="'rain' has no severity constants"):
        constants("rain", 1, "cifar")
