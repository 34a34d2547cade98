"""The examples in docstrings: each gives what it shows, and nothing that people call lacks one."""

from __future__ import annotations

import ast
import doctest
from collections.abc import Iterator
from importlib import import_module

import pytest
from source_files import MODULES

import shiftbench
from shiftbench import registry

ROOMS = ("metrics", "clustering", "corruptions", "stability", "encoders", "data", "runtime")
# Modules whose functions are parts of other functions: what they do is shown where people call it.
PARTS = {
    "shiftbench.clustering": ("lloyd", "lloyd_torch"),
    "shiftbench.corruptions": (
        "backend",
        "colour",
        "droplets",
        "jpeg",
        "linear",
        "motion",
        "plasma",
        "textures",
        "warp",
    ),
    "shiftbench.data": ("duplicates", "lookup", "natural"),
    "shiftbench.encoders": (
        *("arch", "taps", "zoo"),
        *("cifar_resnet", "densenet", "resnet", "uvadlc", "vgg", "vit", "wide_resnet"),
    ),
    "shiftbench.runtime": ("compat", "processes"),
}
# Where examples may be shown that do not run: they need official files, the network or an extra.
NOT_HERE = {
    "shiftbench.data": ("cifar", "corrupted", "imagenet", "mnist", "stl"),
    "shiftbench.encoders": ("hf_zoo", "robustbench_zoo", "timm_zoo"),
}
LONGEST = 6  # lines of code in an example

Node = ast.Module | ast.ClassDef | ast.FunctionDef
PARSER = doctest.DocTestParser()


def documented(node: Node, name: str) -> Iterator[tuple[str, Node, str]]:
    """(dotted name, node, docstring) of a module and of everything in it that has a docstring."""
    docstring = ast.get_docstring(node, clean=False)
    if docstring is not None:
        yield name, node, docstring
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            yield from documented(child, f"{name}.{child.name}")


def names_of(folders: dict[str, tuple[str, ...]]) -> set[str]:
    return {f"{package}.{module}" for package, modules in folders.items() for module in modules}


TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in MODULES.items()}
EXAMPLES = {
    name: (module, docstring, node.body[0].lineno - 1)
    for module, tree in TREES.items()
    for name, node, docstring in documented(tree, module)
    if ">>>" in docstring
}


def differences(name: str, module: str, docstring: str, line: int) -> str:
    """What the examples of a docstring give otherwise than it shows; empty where nothing does."""
    known = {**vars(import_module(module)), "__name__": "__main__"}  # as typed after `from MODULE import *`
    example = PARSER.get_doctest(docstring, known, name, str(MODULES[module]), line)
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    return "".join(report)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_gives_what_it_shows(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not differences(name, *EXAMPLES[name])


def test_a_wrong_example_is_seen():
    wrong = ">>> accuracy([[3, 0], [1, 2]])\n1.0"
    assert "Got:" in differences("wrong", "shiftbench.metrics.external", wrong, 0)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_is_short_and_runs(name):
    module, docstring, _ = EXAMPLES[name]
    assert "Examples:\n" in docstring, "its heading is Examples:"
    lines = PARSER.get_examples(docstring)
    assert len(lines) <= LONGEST
    skipped = [line.source for line in lines if line.options.get(doctest.SKIP)]
    assert not skipped or module in names_of(NOT_HERE), f"{skipped} does not run: show something that does"


def test_the_exceptions_are_modules():
    assert names_of(PARTS) | names_of(NOT_HERE) <= MODULES.keys()


def called(module: str) -> set[str]:
    """The dotted names in a module that people call: what is public, registered, or listed in ``__all__``."""
    names = {name for name, node, _ in documented(TREES[module], module) if not isinstance(node, ast.Module)}
    public = {name for name in names if name.rpartition(".")[0] == module and name.rpartition(".")[2][0] != "_"}
    if module in names_of(PARTS):
        registries = [value for value in vars(registry).values() if isinstance(value, registry.Registry)]
        registered = {entry.target.replace(":", ".") for entries in registries for entry in entries.values()}
        listed = getattr(import_module(module.rpartition(".")[0]), "__all__", ())
        public &= registered | {f"{module}.{name}" for name in listed}
    return {name for name in public if not name.endswith("Error")}


@pytest.mark.parametrize("name", sorted(set(shiftbench.__all__) - {"__version__"}))
def test_the_public_interface_has_an_example(name):
    public = getattr(shiftbench, name)
    assert f"{public.__module__}.{public.__qualname__}" in EXAMPLES, "add an Examples: section with >>> lines"


@pytest.mark.parametrize("module", [module for module in MODULES if module.partition(".")[2].split(".")[0] in ROOMS])
def test_what_people_call_has_an_example(module):
    lacking = called(module) - EXAMPLES.keys()
    assert not lacking, f"no example in {', '.join(sorted(lacking))}: add an Examples: section with >>> lines"
