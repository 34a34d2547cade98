"""Names, how they are added, found, mistaken and brought along by other packages."""

from __future__ import annotations

import json
import math
import subprocess

import pytest

from shiftbench.errors import InputError
from shiftbench.registry import CORRUPTIONS, METHODS, Entry, Registry
from shiftbench.runtime.imports import import_target


@pytest.fixture
def tools():
    return Registry("tool", {
        "root": Entry("math:sqrt", "square root", "powers"),
        "run": Entry("subprocess:run", "a command"),
    })  # fmt: skip


def test_a_name_loads_what_it_stands_for(tools):
    assert tools.load("root") is math.sqrt
    assert tools.load("run") is subprocess.run


def test_a_target_can_be_named_directly(tools):
    assert tools.load("math:cos") is math.cos


def test_a_registry_is_a_mapping_in_the_order_of_addition(tools):
    tools.add("cosine", "math:cos", "cosine", "angles")
    assert list(tools) == ["root", "run", "cosine"]
    assert len(tools) == 3
    assert tools["cosine"] == Entry("math:cos", "cosine", "angles")
    assert "sine" not in tools


def test_names_are_all_or_those_of_a_group(tools):
    assert tools.names() == ["root", "run"]
    assert tools.names("powers") == ["root"]
    assert tools.names("angles") == []


def test_a_taken_name_is_refused_and_both_targets_are_named(tools):
    with pytest.raises(InputError, match=r"^The tool 'root' is already math:sqrt; math:cbrt needs another name\.$"):
        tools.add("root", "math:cbrt", "cube root")
    assert tools.load("root") is math.sqrt


def test_the_same_target_can_be_added_again(tools):
    tools.add("root", "math:sqrt", "the square root", "powers")
    assert tools["root"].summary == "the square root"


def test_registries_do_not_share_names(tools):
    other = Registry("toy", tools)
    other.add("cosine", "math:cos", "cosine")
    assert "cosine" not in tools


def test_a_mistaken_name_gets_the_nearest_one():
    with pytest.raises(InputError, match=r"^Unknown method 'concrul'\. Did you mean 'concurl'\? Available: concurl"):
        METHODS.load("concrul")


def test_a_name_like_no_other_gets_the_list(tools):
    with pytest.raises(InputError, match=r"^Unknown tool 'xyz'\. Available: root, run\.$"):
        tools.load("xyz")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("shiftbench.nowhere:thing", "there is no module 'shiftbench.nowhere'"),
        ("no_such_package.part:thing", "there is no module 'no_such_package'"),
        ("math:no_such_function", "module 'math' has no attribute 'no_such_function'"),
    ],
)
def test_a_target_that_is_not_there_is_named(target, message):
    with pytest.raises(InputError) as caught:
        import_target(target)
    assert str(caught.value) == f"Cannot import {target!r}: {message}."


def test_what_a_module_misses_itself_is_named(tmp_path, monkeypatch):
    (tmp_path / "needs_more.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="Cannot import 'needs_more:thing': there is no module 'no_such_package'"):
        import_target("needs_more:thing")


def test_the_common_corruptions_are_fifteen_in_the_published_order():
    common = CORRUPTIONS.names("common")
    assert len(common) == 15
    assert common[:3] == ["gaussian_noise", "shot_noise", "impulse_noise"]
    assert common[-1] == "jpeg_compression"


def install_plugin(folder, code):
    """A distribution with one plugin, importable when the folder is on the path."""
    (folder / "guest.py").write_text(code)
    distribution = folder / "guest-1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
    (distribution / "entry_points.txt").write_text("[shiftbench.plugins]\nguest = guest:register\n")


def test_another_package_brings_names_along(run_python, tmp_path):
    install_plugin(
        tmp_path,
        """
from shiftbench.registry import CORRUPTIONS, METRICS

def register():
    assert "fog" in CORRUPTIONS  # a plugin may look at what is there
    METRICS.add("guest_score", "guest:score", "what a guest counts")
    CORRUPTIONS.add("guest_noise", "guest:noise", "a guest's noise", "extra")

def score(labels, partition):
    return 1.0
""",
    )
    result = run_python(
        """
import json
from shiftbench.registry import CORRUPTIONS, METRICS
score = METRICS.load("guest_score")
print(json.dumps([score(None, None), METRICS.names()[-1], CORRUPTIONS.names("extra")[-1]]))
""",
        PYTHONPATH=str(tmp_path),
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [1.0, "guest_score", "guest_noise"]


def test_a_plugin_that_fails_is_named_in_one_line(run_python, tmp_path):
    install_plugin(tmp_path, "def register():\n    raise RuntimeError('no')\n")
    result = run_python(
        "import sys; from shiftbench.cli.main import main; sys.exit(main(['list', 'methods']))",
        PYTHONPATH=str(tmp_path),
    )
    assert result.returncode == 2
    assert result.stderr == "shiftbench: The plugin 'guest:register' failed: RuntimeError: no\n"
