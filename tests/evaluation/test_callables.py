"""A python encoder's numbers are those of exactly what was given, in the very loop that everyone writes."""

import functools
import importlib
import sys

import numpy as np
import pytest
import torch
from torch import nn

from shiftbench.errors import InputError
from shiftbench.evaluation import evaluate


def mean(images):
    return images.float().mean((2, 3))


def flat(images):
    return images.float().flatten(1)


def constant(images):
    return images[:, :1, 0, 0].float() % 2


def accuracy(results, **keys):
    rows = results.cells.query("metric == 'acc' and shift == 'clean' and protocol == 'frozen'")
    for key, value in keys.items():
        rows = rows[rows[key] == value]
    return rows["value"].mean()


@pytest.fixture
def one_folder(small, tmp_path):
    """Every call of a notebook that names one folder."""
    return small | {"results": tmp_path / "notebook"}


KINDS = {
    "functions": (mean, constant),
    "lambdas": (lambda x: mean(x), lambda x: constant(x)),
    "partials": (functools.partial(mean), functools.partial(constant)),
    "objects": (
        type("Net", (), {"__call__": lambda self, x: mean(x)})(),
        type("Net", (), {"__call__": lambda self, x: constant(x)})(),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("default_folder", [True, False])
def test_the_second_of_two_calls_has_its_own_number(kind, default_folder, one_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = one_folder | ({"results": None} if default_folder else {})
    good, bad = KINDS[kind]
    assert accuracy(evaluate(good, **given)) == 1
    assert accuracy(evaluate({"other": bad}, **given), encoder="other") < 0.7
    assert accuracy(evaluate(bad, **given), encoder=evaluate(bad, **given).run["encoders"][-1]["name"]) < 0.7


@pytest.mark.parametrize("kind", KINDS)
def test_two_in_one_call_are_two_rows(kind, small):
    results = evaluate(list(KINDS[kind]), **small)
    assert results.cells["encoder"].nunique() == 2
    scores = sorted(accuracy(results, encoder=name) for name in results.cells["encoder"].unique())
    assert scores[0] < 0.7
    assert scores[1] == 1


def test_names_of_ones_own(small):
    results = evaluate({"good": mean, "bad": constant}, **small)
    assert accuracy(results, encoder="good") == 1
    assert accuracy(results, encoder="bad") < 0.7


def test_a_global_that_changed(small, tmp_path, monkeypatch):
    (tmp_path / "globals_of_mine.py").write_text(
        "import torch\nW = torch.eye(3)\ndef f(x):\n    return x.float().mean((2, 3)) @ W\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("globals_of_mine")
    assert accuracy(evaluate(module.f, **small)) == 1
    module.W = torch.zeros(3, 3)
    results = evaluate(module.f, **small)
    assert accuracy(results, encoder=results.run["encoders"][-1]["name"]) < 0.7


def test_a_file_that_was_loaded_at_import(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("w.npy", np.eye(3, dtype=np.float32))
    (tmp_path / "loads.py").write_text(
        "import numpy as np, torch\nW = torch.from_numpy(np.load('w.npy'))\ndef f(x):\n    return x.float().mean((2, 3)) @ W\n"
    )
    assert accuracy(evaluate("loads:f", **small)) == 1
    np.save("w.npy", np.zeros((3, 3), dtype=np.float32))
    sys.modules.pop("loads")
    results = evaluate("loads:f", **small)
    assert accuracy(results, encoder=results.run["encoders"][-1]["name"]) < 0.7
    sys.modules.pop("loads")


def counted(calls):
    def encode(images):
        calls.append(len(images))
        return mean(images)

    return encode


def test_a_version_vouches_for_what_cannot_be_known(small):
    from shiftbench.encoders import load_encoder

    calls = []
    first = evaluate(load_encoder(counted(calls), name="mine", version="1"), **small)
    before = len(calls)
    again = evaluate(load_encoder(counted(calls), name="mine", version="1"), **small)
    assert len(calls) == before
    assert again.cells.equals(first.cells)
    evaluate(load_encoder(counted(calls), name="mine", version="2"), **small)
    assert len(calls) > before


def test_a_module_in_training_mode_is_scored_as_it_would_be_used(small):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    floats = nn.Sequential(_ToFloat(), network).train()
    before = {name: value.clone() for name, value in floats.state_dict().items()}
    results = [
        evaluate(floats, **small | {"batch_size": size, "results": small["results"] / str(size)}) for size in (7, 30)
    ]
    assert floats.training
    assert all(torch.equal(value, before[name]) for name, value in floats.state_dict().items())
    scores = [one.cells.query("metric == 'ari'")["value"].to_numpy() for one in results]
    np.testing.assert_allclose(*scores, atol=0.05)


class _ToFloat(nn.Module):
    def forward(self, images):
        return images.float() / 255


def test_a_module_that_cannot_be_copied_is_refused(small):
    class Stubborn(nn.Module):
        def __deepcopy__(self, memo):
            raise RuntimeError("no copies")

    with pytest.raises(InputError, match=r"Stubborn cannot be copied .*no copies"):
        evaluate(Stubborn(), **small)


def test_what_depends_on_the_batch_or_on_chance_is_refused_or_said(small):
    def centred(images):
        means = images.float().mean((2, 3))
        return means - means.mean(0)

    def masked(images):
        return mean(images) * (torch.rand(len(images), 3) > 0.5)

    for unsteady in (centred, masked, nn.Sequential(_ToFloat(), _Always(nn.Dropout(0.5)), nn.Flatten())):
        with pytest.raises(InputError, match=r"depends on the batch or on chance.*deterministic=false admits it"):
            evaluate(unsteady, **small)
    results = evaluate(centred, **small | {"deterministic": False})
    assert results.cells.query("status == 'ok'")["reason"].str.contains("depends on the batch").all()
    assert not evaluate(mean, **small | {"results": None}).cells["reason"].str.contains("batch").any()


class _Always(nn.Module):
    """A layer in training mode, whatever is asked for: as many who forget it write."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, values):
        return self.layer.train()(values)
