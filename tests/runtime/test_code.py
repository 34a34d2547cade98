"""Digests of code change with whatever it computes with, and are refused where that cannot be known."""

import functools
import importlib
import itertools
import sys

import numpy as np
import pytest
import torch

from shiftbench.runtime.code import code_digest

NUMBERS = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """``module(source)`` writes and imports a module of its own name, and returns it."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(source, name=None):
        name = name or f"mine{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(source)
        importlib.invalidate_caches()
        sys.modules.pop(name, None)
        return importlib.import_module(name)

    return make


def digest_of(module, source, name="same"):
    return code_digest(module(source, name).f)


PLAIN = "def f(x):\n    return x + 1\n"
CHANGES = {
    "a constant": ("def f(x):\n    return x + 1\n", "def f(x):\n    return x + 2\n"),
    "an operator": ("def f(x):\n    return x + 1\n", "def f(x):\n    return x - 1\n"),
    "a default": ("def f(x, y=1):\n    return x + y\n", "def f(x, y=2):\n    return x + y\n"),
    "a keyword default": ("def f(x, *, y=1):\n    return x + y\n", "def f(x, *, y=2):\n    return x + y\n"),
    "a called attribute": ("def f(x):\n    return x.sum()\n", "def f(x):\n    return x.mean()\n"),
    "a global": ("W = 1\ndef f(x):\n    return x + W\n", "W = 2\ndef f(x):\n    return x + W\n"),
    "a global list": ("W = [1, 2]\ndef f(x):\n    return W\n", "W = [1, 3]\ndef f(x):\n    return W\n"),
    "a global array": (
        "import numpy as np\nW = np.ones(3)\ndef f(x):\n    return x @ W\n",
        "import numpy as np\nW = np.zeros(3)\ndef f(x):\n    return x @ W\n",
    ),
    "a global tensor": (
        "import torch\nW = torch.ones(3)\ndef f(x):\n    return x @ W\n",
        "import torch\nW = torch.ones(3, dtype=torch.float64)\ndef f(x):\n    return x @ W\n",
    ),
    "a function it calls": (
        "def g(x):\n    return x\ndef f(x):\n    return g(x)\n",
        "def g(x):\n    return -x\ndef f(x):\n    return g(x)\n",
    ),
    "a global of a function it calls": (
        "W = 1\ndef g(x):\n    return W\ndef f(x):\n    return g(x)\n",
        "W = 2\ndef g(x):\n    return W\ndef f(x):\n    return g(x)\n",
    ),
    "a function inside": (
        "def f(x):\n    def g(y):\n        return y\n    return g(x)\n",
        "def f(x):\n    def g(y):\n        return -y\n    return g(x)\n",
    ),
    "a method of a class it makes": (
        "class C:\n    def go(self, x):\n        return x\ndef f(x):\n    return C().go(x)\n",
        "class C:\n    def go(self, x):\n        return -x\ndef f(x):\n    return C().go(x)\n",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_seen(module, change):
    before, after = CHANGES[change]
    first = digest_of(module, before)
    assert first is not None
    assert digest_of(module, before) == first
    assert digest_of(module, after) not in (first, None)


def test_a_global_that_is_changed_in_place_is_seen(module):
    mine = module("W = [1]\ndef f(x):\n    return W\n")
    first = code_digest(mine.f)
    mine.W.append(2)
    assert code_digest(mine.f) != first


def test_another_module_of_the_user_is_followed(module):
    helper = module("def g(x):\n    return x\n", "helper")
    mine = module("import helper\ndef f(x):\n    return helper.g(x)\n")
    first = code_digest(mine.f)
    assert first is not None
    helper.g = module("def g(x):\n    return -x\n").g
    assert code_digest(mine.f) != first


UNKNOWABLE = {
    "a lambda": "f = lambda x: x\n",
    "a closure": "def make(w):\n    def f(x):\n        return x + w\n    return f\nf = make(1)\n",
    "a callable object": "class C:\n    def __call__(self, x):\n        return x\nf = C()\n",
    "a partial of a lambda": "import functools\nf = functools.partial(lambda x, y: x, y=1)\n",
    "a file that is read": "import numpy as np\ndef f(x):\n    return x @ np.load('w.npy')\n",
    "a file that is opened": "def f(x):\n    return open('w').readline()\n",
    "the environment": "import os\ndef f(x):\n    return os.environ['W']\n",
    "chance": "import torch\ndef f(x):\n    return x + torch.rand(3)\n",
    "an object among its globals": "class C:\n    pass\nW = C()\ndef f(x):\n    return W\n",
    "a function that reads a file": "def g():\n    return open('w')\ndef f(x):\n    return g()\n",
    "an array of objects": "import numpy as np\nW = np.array([object()])\ndef f(x):\n    return W\n",
}


@pytest.mark.parametrize("kind", UNKNOWABLE)
def test_what_cannot_be_known_has_no_digest(module, kind):
    assert digest_of(module, UNKNOWABLE[kind]) is None


def test_a_partial_has_the_digest_of_its_parts(module):
    mine = module("def f(x, w):\n    return x + w\n")
    digests = [code_digest(functools.partial(mine.f, w=w)) for w in (1, 2, 1)]
    assert digests[0] == digests[2] != digests[1]
    assert None not in digests


def test_a_torch_module_is_its_weights_code_and_settings(module):
    source = """
import torch
class Net(torch.nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.scale = torch.nn.Linear(3, 2), scale
    def forward(self, x):
        return {body}
"""
    mine = module(source.format(body="self.layer(x) * self.scale"), "net")
    first = code_digest(mine.Net())
    assert first is not None
    assert code_digest(mine.Net()) == first
    assert code_digest(mine.Net(2.0)) != first
    other = mine.Net()
    with torch.no_grad():
        other.layer.weight[0, 0] += 1
    assert code_digest(other) != first
    hooked = mine.Net()
    hooked.layer.register_forward_hook(lambda *_: None)
    assert code_digest(hooked) is None
    assert code_digest(module(source.format(body="self.layer(x) + self.scale"), "net").Net()) not in (first, None)


def test_installed_code_counts_by_its_version():
    assert code_digest(np.mean) == code_digest(np.mean) != code_digest(np.median)
    assert code_digest(torch.nn.Linear) is not None


def test_what_refers_to_itself_ends():
    items: list = [1]
    items.append(items)
    assert code_digest(functools.partial(max, items)) is not None


def test_what_is_typed_into_an_installed_program_is_not_installed(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__file__", np.__file__, raising=False)
    assert code_digest(eval("lambda x: x", {"__name__": "__main__"})) is None
