"""What may import what, what must stay light, and that every registered name leads somewhere."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import is_dataclass
from importlib import import_module
from inspect import ismodule
from pkgutil import resolve_name

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from source_files import CHECKOUT, MODULES

import shiftbench
from shiftbench import registry

tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")

GUIDE = CHECKOUT / "CONTRIBUTING.md"
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))

# What may know what: a folder, or a module of the root, imports from its own row's left neighbours only.
LEVELS = (
    {"errors", "registry", "records", "images", "runtime", "configs"},
    {"metrics", "clustering", "corruptions"},
    {"data", "encoders", "stability"},
    {"features", "results"},
    {"trainers", "evaluation"},
    {"reports"},
    {"cli"},
)
ROOT = {"__init__", "__main__", "errors", "records", "registry", "images"}


DISTRIBUTIONS = {
    "PIL": "pillow",
    "hydra": "hydra-core",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def imports(module: str, source: str, package: bool = False) -> Iterator[tuple[str, bool]]:
    """Every module that ``module`` imports, and whether it does so at once (not first inside a function).

    A name that is taken from a package counts as the module behind it.
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
            names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names]
            if base == "shiftbench":
                names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "shiftbench":
            names = [f"shiftbench.{node.attr}"]
        for name in dict.fromkeys(names):
            top, _, attribute = name.partition(".")
            behind = shiftbench._PUBLIC.get(attribute) if top == "shiftbench" else None
            yield behind or name, id(node) not in in_functions


def imports_of(module: str) -> list[tuple[str, bool]]:
    path = MODULES[module]
    return list(imports(module, path.read_text(encoding="utf-8"), package=path.name == "__init__.py"))


def folder_of(module: str) -> str:
    """The part of the house that a module is in; empty for the top of the package and what only starts the command."""
    name = module.split(".")[1] if "." in module else ""
    return "" if name in ("__main__", "__version__") else name


def level_of(folder: str) -> int:
    [level] = [level for level, folders in enumerate(LEVELS) if folder in folders] or [None]
    assert level is not None, f"{folder} has no place in LEVELS: give it one"
    return level


def check(module: str, imported: str) -> None:
    """Raise AssertionError where ``module`` must not import ``imported``."""
    here, there = folder_of(module), folder_of(imported)
    if here and there and here != there and not {here, there} <= LEVELS[0]:
        above = f"{module} (level {level_of(here)}) imports {imported} (level {level_of(there)})"
        assert level_of(there) < level_of(here), above


def purpose(folder: str) -> str:
    """The first sentences of its documentation, in Markdown."""
    documentation = ast.get_docstring(ast.parse(MODULES[f"shiftbench.{folder}"].read_text(encoding="utf-8")))
    return documentation.partition("\n")[0].replace("``", "`")


def folder_imports() -> dict[str, list[str]]:
    """The folders above the lowest level that each folder imports from; every folder, by its level."""
    neighbours: dict[str, set[str]] = {folder: set() for level in LEVELS for folder in sorted(level)}
    for module in MODULES:
        here = folder_of(module)
        there = {folder_of(name) for name, _ in imports_of(module) if name.startswith("shiftbench.")}
        if here:
            neighbours[here] |= there - LEVELS[0] - {here, ""}
    return {folder: sorted(others) for folder, others in neighbours.items()}


def reached(folder: str, graph: Mapping[str, Collection[str]]) -> set[str]:
    """All that a folder imports from, by whatever detour."""
    return set(graph[folder]).union(*(reached(other, graph) for other in graph[folder]))


def arrows(graph: Mapping[str, Collection[str]]) -> list[tuple[str, str]]:
    """The imports that do not follow from others: the fewest arrows by which the same folders are reached."""
    detours = {folder: set().union(*(reached(other, graph) for other in others)) for folder, others in graph.items()}
    return [(folder, other) for folder, others in graph.items() for other in others if other not in detours[folder]]


def diagram() -> str:
    """The levels as a table, and their imports as a drawing, in Markdown."""
    graph = folder_imports()
    lines = ["| level | folder | what is there | imports, besides level 0 |", "| --- | --- | --- | --- |"]
    for folder, others in graph.items():
        names = " ".join(f"`{other}`" for other in others)
        lines.append(f"| {level_of(folder)} | `{folder}` | {purpose(folder)} | {names} |")
    lines += ["", "```mermaid", "flowchart TD"]
    for number, level in reversed([*enumerate(LEVELS)][1:]):
        lines += [
            f'    subgraph level{number}["level {number}"]',
            *(f"        {name}" for name in sorted(level)),
            "    end",
        ]
    lines += [f"    {folder} --> {other}" for folder, other in arrows(graph)]
    return "\n".join([*lines, "```"])


def cycles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """The groups of modules that import each other, by whatever detour: strongly connected components (Tarjan 1972)."""
    number, low, stack, found = {}, {}, [], []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in graph[module]:
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            together = [stack.pop()]
            while together[-1] != module:
                together.append(stack.pop())
            found.extend([sorted(together)] * (len(together) > 1 or module in graph[module]))

    for module in graph:
        if module not in number:
            visit(module)
    return found


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"shiftbench"}))
def test_a_module_imports_from_lower_levels_only(module):
    for imported, _ in imports_of(module):
        if imported.partition(".")[0] == "shiftbench":
            check(module, imported)


def test_no_module_imports_itself_by_any_detour():
    graph = {module: {name for name, _ in imports_of(module) if name in MODULES} for module in MODULES}
    graph["shiftbench"] = set()  # it fetches its public names when they are used
    assert cycles(graph) == []


def test_a_cycle_is_seen():
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": set(), "e": {"e"}}
    assert cycles(graph) == [["a", "b", "c"], ["e"]]


def test_the_contributors_guide_shows_the_folders_as_they_are():
    assert diagram() in GUIDE.read_text(encoding="utf-8"), "the folders have changed: `make diagram` draws them anew"


def test_an_arrow_that_follows_from_others_is_not_drawn():
    graph = {"a": ["b", "c", "d"], "b": ["d"], "c": [], "d": ["e"], "e": []}
    assert arrows(graph) == [("a", "b"), ("a", "c"), ("b", "d"), ("d", "e")]


DOCUMENTS = [CHECKOUT / "README.md", GUIDE, CHECKOUT / "benchmarks" / "README.md", *sorted(CHECKOUT.glob("docs/*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=[path.relative_to(CHECKOUT).as_posix() for path in DOCUMENTS])
def test_every_module_that_the_documentation_names_is_there(document):
    text = document.read_text(encoding="utf-8").replace(
        "`shiftbench.plugins`", ""
    )  # no module: a group of entry points
    for name in set(re.findall(r"\bshiftbench(?:\.[A-Za-z_]\w*)+", text)):
        resolve_name(name)


def test_the_root_holds_folders_and_little_else():
    assert {path.stem for path in (CHECKOUT / "shiftbench").glob("*.py")} == ROOT
    folders = {path.parent.name for path in (CHECKOUT / "shiftbench").glob("*/__init__.py")}
    assert folders | {"configs", "corruptions", "reports", "trainers"} == set().union(*LEVELS) - ROOT


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("shiftbench.evaluation.evaluate", "from shiftbench.trainers.engine import fit"),
        ("shiftbench.trainers.engine", "import shiftbench.evaluation"),
        ("shiftbench.metrics.external", "def late():\n    from shiftbench.clustering import kmeans"),
        ("shiftbench.data.cifar", "from ..reports import page"),
        ("shiftbench.features.encode", "from shiftbench import evaluate"),
        ("shiftbench.features.encode", "import shiftbench\nshiftbench.train()"),
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
        ("shiftbench.evaluation.evaluate", "from shiftbench.results import Results"),
        ("shiftbench.trainers.engine", "from . import run"),
        ("shiftbench.cli.main", "def late():\n    from shiftbench import train"),
        ("shiftbench.trainers.run", "from shiftbench import __version__"),
    ],
)
def test_an_import_from_below_is_allowed(module, source):
    [(imported, _)] = imports(module, source)
    check(module, imported)


PACKAGES = sorted(module for module, path in MODULES.items() if path.name == "__init__.py")


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_what_can_be_seen(package):
    loaded = import_module(package)
    visible = {name for name in dir(loaded) if not name.startswith("_") and not ismodule(getattr(loaded, name))}
    assert visible == set(getattr(loaded, "__all__", ())) - {"__version__"}
    assert loaded.__doc__


def test_the_public_interface():
    assert dir(shiftbench) == sorted(shiftbench.__all__)
    assert {"evaluate", "report", "load_encoder", "train", "corrupt"} <= set(dir(shiftbench))
    assert not [name for name in dir(shiftbench) if name.startswith("_") and name != "__version__"]


@pytest.mark.parametrize("name", ["tests", "docs", "benchmarks", "shiftbench", "shiftbench.errors"])
def test_a_checkout_adds_no_other_folder_to_the_package(name):
    with pytest.raises(ModuleNotFoundError):
        import_module(f"shiftbench.{name}")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_what_a_module_imports_is_declared(module):
    """At import only what every installation has; inside functions also what an extra brings."""
    project = PROJECT["project"]
    base = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    extra_lines = [line for lines in project["optional-dependencies"].values() for line in lines]
    extras = {canonicalize_name(Requirement(line).name) for line in extra_lines}
    if module == "shiftbench.runtime.compat":
        extras |= {"scikit-image"}  # of the package that it repairs
    for imported, at_import in imports_of(module):
        top = imported.partition(".")[0]
        if top not in sys.stdlib_module_names and top != "shiftbench":
            name = canonicalize_name(DISTRIBUTIONS.get(top, top))
            assert name in (base if at_import else base | extras), f"{module} imports {top}: not declared"


@pytest.mark.parametrize(
    "light",
    [
        ["shiftbench.registry", "shiftbench.runtime.console", "shiftbench.cli.main"],
        [
            "shiftbench.results.tables",
            "shiftbench.results.summary",
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
    assert callable(found) or is_dataclass(found)
    assert REGISTRIES[kind][name].summary


def test_one_version():
    assert shiftbench.__version__ == PROJECT["project"]["version"]
    assert f"[{shiftbench.__version__}]" in (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")


if __name__ == "__main__":
    before, begin, rest = GUIDE.read_text(encoding="utf-8").partition("<!-- made by `make diagram` -->\n")
    _, end, after = rest.partition("<!-- end -->\n")
    GUIDE.write_text("".join([before, begin, diagram(), "\n", end, after]), encoding="utf-8")
