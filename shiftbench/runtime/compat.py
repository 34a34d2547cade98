"""Repairs of upstream packages that no longer import or run beside today's releases.

There is a function for each package. It imports the package when it is first called, and returns it in working order.
What is broken is replaced inside the broken module alone, so that numpy, scikit-image and ``sys.modules`` stay the same for
everybody else. Each repair has a test in ``tests/runtime/test_compat.py`` that fails once upstream no longer needs it.
"""

from __future__ import annotations

import builtins
import struct
import sys
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from threading import Lock, RLock
from types import ModuleType
from typing import Any

# Held by threads while they read numpy's files: their headers are parsed as Python, and Python 3.11 counts the depth of its
# parser for all threads together, so that two at once may end in a SystemError (python/cpython issue 106905).
NUMPY_HEADERS = Lock()

# What numpy, zipfile and zlib raise where a .npz file is damaged, wherever the damage is.
NPZ_ERRORS = (
    OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, OverflowError, RuntimeError, SyntaxError,
    struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip

_IMPORTING = RLock()
_LIBRARIES: list[Any] = []  # kept, since the declarations of a torch Library end with it


@cache
def imagecorruptions() -> ModuleType:
    """The package ``imagecorruptions`` (Michaelis et al., 2019), its 19 functions in working order.

    Release 1.1.2 imports ``pkg_resources``, which setuptools 82 dropped, and ``scipy.ndimage.interpolation``,
    which SciPy 2 drops; it passes ``multichannel`` to scikit-image, which 0.22 dropped, and uses
    ``np.float_``, which NumPy 2 dropped.

    Raises:
        ModuleNotFoundError: imagecorruptions, or something else that it needs, is not installed.
    """
    package = _import_repaired("imagecorruptions", ["imagecorruptions.corruptions"], {
        "pkg_resources": _pkg_resources(),
        "scipy.ndimage.interpolation": import_module("scipy.ndimage"),
    })  # fmt: skip
    package.corruptions.np = _numpy_1()
    package.corruptions.gaussian = _gaussian
    return package


@cache
def robustbench() -> ModuleType:
    """The package ``robustbench`` (Croce et al., 2021): its loaders, data module and model zoo.

    Release 1.1.1 imports ``autoattack``, which PyPI has as ``pyautoattack`` only, and ``pkg_resources``,
    which setuptools 82 dropped. Importing it takes seconds.

    Raises:
        ModuleNotFoundError: robustbench, or something else that it needs, is not installed.
    """
    torchvision()
    return _import_repaired("robustbench", ["robustbench.loaders", "robustbench.eval"], {
        "pkg_resources": _pkg_resources(),
        "autoattack": import_module("pyautoattack"),
        "autoattack.state": import_module("pyautoattack.state"),
    })  # fmt: skip


@cache
def torchvision() -> ModuleType:
    """The package ``torchvision``, ``transforms.v2`` included, also beside a CPU-only torch.

    PyPI's torchvision is linked against CUDA. Where its operators cannot be loaded, it fails at import, on
    registering shape rules for two operators that nobody declared. Declaring them is enough for everything
    written in Python; the operators themselves (``nms``, ``roi_align``) stay away, and say so when called.

    Raises:
        ModuleNotFoundError: torch or torchvision is not installed.
    """
    with _IMPORTING:
        try:
            return _torchvision()
        except (AttributeError, RuntimeError):
            import torch

            if hasattr(torch.ops.torchvision, "nms"):
                raise
            schemas = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                schemas.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _LIBRARIES.append(schemas)
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]  # what the failed import left behind
            return _torchvision()


def _torchvision() -> ModuleType:
    import_module("torchvision.transforms.v2")
    return import_module("torchvision")


def _pkg_resources() -> ModuleType:
    """A stand-in with the only function of ``pkg_resources`` that the broken packages use."""

    def resource_filename(package_or_module: str, resource: str) -> str:
        file = sys.modules[package_or_module].__file__
        assert file is not None
        return str(Path(file).parent / resource)

    stand_in = ModuleType("pkg_resources")
    vars(stand_in)["resource_filename"] = resource_filename
    return stand_in


def _numpy_1() -> ModuleType:
    """NumPy under the names that NumPy 1 had."""
    import numpy

    stand_in = ModuleType("numpy")
    vars(stand_in).update(vars(numpy), float_=numpy.float64)  # with numpy's __getattr__, for what it loads lazily
    return stand_in


def _gaussian(image: Any, sigma: Any = 1, *, multichannel: bool = False, **options: Any) -> Any:
    """``skimage.filters.gaussian`` with the keyword that scikit-image 0.22 replaced by ``channel_axis``."""
    from skimage.filters import gaussian

    return gaussian(image, sigma, channel_axis=-1 if multichannel else None, **options)


def _import_repaired(package: str, broken: Sequence[str], stand_ins: Mapping[str, ModuleType]) -> ModuleType:
    """Import ``package``; import statements in its ``broken`` modules, and in no others, get the ``stand_ins``."""
    finder = _Finder(broken, stand_ins)
    with _IMPORTING:
        # A new list each time: another thread may be iterating over the present list.
        sys.meta_path = [finder, *sys.meta_path]
        try:
            return import_module(package)
        finally:
            sys.meta_path = [other for other in sys.meta_path if other is not finder]


class _Finder:
    """Finds ``broken`` modules where they are, to be run by :class:`_Loader`."""

    def __init__(self, broken: Sequence[str], stand_ins: Mapping[str, ModuleType]) -> None:
        self.broken = broken
        self.stand_ins = stand_ins

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self.broken:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin, self.stand_ins)
        return spec


class _Loader(SourceFileLoader):
    """Runs a module with an ``import`` statement of its own, which looks into ``stand_ins`` first."""

    def __init__(self, name: str, path: str, stand_ins: Mapping[str, ModuleType]) -> None:
        super().__init__(name, path)
        self.stand_ins = stand_ins

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code."""

        def import_(
            name: str,
            scope: Any = None,
            local_scope: Any = None,
            fromlist: Sequence[str] = (),
            level: int = 0,
        ) -> ModuleType:
            if level == 0 and name in self.stand_ins:
                return self.stand_ins[name]
            return builtins.__import__(name, scope, local_scope, fromlist, level)

        # An import statement calls the __import__ of the __builtins__ that its module carries.
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": import_}
        super().exec_module(module)
