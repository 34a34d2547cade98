"""What may import what, what must stay light, and that every registered name leads somewhere."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import shiftbench
from shiftbench import registry
from shiftbench.records import Shift

tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")

CHECKOUT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = {
    "shiftbench": CHECKOUT / "shiftbench",
    **{f"shiftbench.{name}": CHECKOUT / name for name in ("configs", "corruptions", "reports", "trainers")},
}

# Level by level, the rooms of the house. A room imports itself and lower levels, never its neighbour.
LEVELS: tuple[tuple[set[str], ...], ...] = (
    (
        {
            "clock",
            "compat",
            "configs",
            "console",
            "errors",
            "images",
            "parallel",
            "provenance",
            "ranks",
            "records",
            "registry",
        },
    ),
    ({"clustering"}, {"corruptions"}, {"metrics"}),
    ({"data"}, {"encoders"}, {"choose_k", "stability"}),
    (
        {"cache", "features"},
        {"agreements", "partitions"},
        {"comparisons", "conclude", "proxies", "results", "runs", "schema", "summary"},
    ),
    ({"trainers"}, {"axes", "cells", "compute", "entrants", "evaluation", "examples", "plan", "tabulate", "work"}),
    ({"reports"},),
    ({"__main__", "cli", "doctor", "overrides"},),
)


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()
DISTRIBUTIONS = {
    "PIL": "pillow",
    "hydra": "hydra-core",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def imports(module: str, source: str, package: bool = False) -> Iterator[tuple[str, bool]]:
    """Every module that ``module`` imports, and whether it does so at once (not first inside a function).

    A name taken from the top of the package counts as the module behind it.
    """
    tree = ast.parse(source)
    in_functions = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: len(module.split(".")) - node.level + package]
                base = ".".join([*parents, base]).rstrip(".")
            names = [f"{base}.{alias.name}" if base == "shiftbench" else base for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "shiftbench":
            names = [f"shiftbench.{node.attr}"]
        for name in names:
            top, _, attribute = name.partition(".")
            behind = shiftbench._PUBLIC.get(attribute) if top == "shiftbench" else None
            yield behind or name, id(node) not in in_functions


def imports_of(module: str) -> list[tuple[str, bool]]:
    path = MODULES[module]
    return list(imports(module, path.read_text(encoding="utf-8"), package=path.name == "__init__.py"))


def room_of(module: str) -> tuple[int, set[str]] | None:
    """The level and the room of ``shiftbench.X...``; None for the top of the package itself."""
    name = module.split(".")[1] if "." in module else ""
    for level, rooms in enumerate(LEVELS):
        for room in rooms:
            if name in room:
                return level, room
    assert module in {"shiftbench", "shiftbench.__version__"}, f"{module} has no place in LEVELS: give it one"
    return None


def check(module: str, imported: str) -> None:
    """Raise AssertionError where ``module`` must not import ``imported``."""
    here, there = room_of(module), room_of(imported)
    if here is not None and there is not None and here[1] is not there[1]:
        assert there[0] < here[0], f"{module} (level {here[0]}) imports {imported} (level {there[0]})"


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"shiftbench"}))
def test_a_module_imports_from_lower_levels_only(module):
    for imported, _ in imports_of(module):
        if imported.partition(".")[0] == "shiftbench":
            check(module, imported)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("shiftbench.evaluation", "from shiftbench.trainers.engine import fit"),
        ("shiftbench.trainers.engine", "import shiftbench.evaluation"),
        ("shiftbench.metrics.external", "def late():\n    from shiftbench.clustering import kmeans"),
        ("shiftbench.data.cifar", "from ..reports import page"),
        ("shiftbench.features", "from shiftbench import evaluate"),
        ("shiftbench.features", "import shiftbench\nshiftbench.train()"),
        ("shiftbench.records", "from . import results"),
    ],
)
def test_an_import_from_above_is_seen(module, source):
    [*_, (imported, _)] = imports(module, source)
    with pytest.raises(AssertionError, match=r"level \d"):
        check(module, imported)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("shiftbench.evaluation", "from shiftbench.results import Results"),
        ("shiftbench.trainers.engine", "from . import run"),
        ("shiftbench.cli", "def late():\n    from shiftbench import train"),
        ("shiftbench.trainers.run", "from shiftbench import __version__"),
    ],
)
def test_an_import_from_below_is_allowed(module, source):
    [(imported, _)] = imports(module, source)
    check(module, imported)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_what_a_module_imports_is_declared(module):
    """At import only what every installation has; inside functions also what an extra brings."""
    project = PROJECT["project"]
    base = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    extra_lines = [line for lines in project["optional-dependencies"].values() for line in lines]
    extras = {canonicalize_name(Requirement(line).name) for line in extra_lines}
    if module == "shiftbench.compat":
        extras |= {"scikit-image"}  # of the package that it repairs
    for imported, at_import in imports_of(module):
        top = imported.partition(".")[0]
        if top not in sys.stdlib_module_names and top != "shiftbench":
            name = canonicalize_name(DISTRIBUTIONS.get(top, top))
            assert name in (base if at_import else base | extras), f"{module} imports {top}: not declared"


@pytest.mark.parametrize(
    "light",
    [
        ["shiftbench.registry", "shiftbench.console", "shiftbench.cli"],
        [
            "shiftbench.results",
            "shiftbench.summary",
            *(name for name in MODULES if name.startswith("shiftbench.reports")),
        ],
    ],
    ids=["command", "reports"],
)
def test_no_torch_without_need(run_python, light):
    result = run_python(f"""
import importlib, sys
for name in {light}:
    importlib.import_module(name)
    assert "torch" not in sys.modules, f"importing {{name}} loads torch"
""")
    assert result.returncode == 0, result.stderr


REGISTRIES = {name: value for name, value in vars(registry).items() if isinstance(value, registry.Registry)}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in REGISTRIES for name in REGISTRIES[kind]])
def test_every_registered_name_leads_somewhere(kind, name):
    found = REGISTRIES[kind].load(name)
    assert callable(found) or isinstance(found, Shift)
    assert REGISTRIES[kind][name].summary


def test_one_version():
    assert shiftbench.__version__ == PROJECT["project"]["version"]
    assert f"[{shiftbench.__version__}]" in (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")
