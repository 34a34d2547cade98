"""What a cell's partitions and a condition's images depend on: each input changes their name, nothing else does."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch

from shiftbench.encoders.base import Encoder
from shiftbench.evaluation import evaluate
from shiftbench.evaluation import plan as module
from shiftbench.evaluation.options import EvaluationOptions
from shiftbench.evaluation.plan import make_plan
from shiftbench.evaluation.readouts import Clustered, Described, Probed, Stable
from shiftbench.records import CLEAN, Condition

KMEANS = Clustered("kmeans")
FOG = Condition("corruption", "fog", 1, "cifar")
DEFAULTS = {name: parameter.default for name, parameter in inspect.signature(evaluate).parameters.items()}
ARGUMENTS = {name: DEFAULTS[name] for name in DEFAULTS if name != "checkpoint"} | {
    "shift": ["fog-1", "fog-2"], "floors": [], "clusterer": ["kmeans", "ward"], "k": "2-4", "k_by": "gap", "seeds": 3,
    "stability": ["bootstrap"], "table": "cifar", "limit": 20, "batch_size": 10, "workers": 1, "dtype": "float32",
    "device": "cpu", "cache": None, "results": "results",
}  # fmt: skip


def encoder(fingerprint="means"):
    return Encoder("means", lambda images: {"backbone": images.float().mean(dim=(2, 3))}, fingerprint=fingerprint)


@pytest.fixture
def names(colours):
    """The keys of a cell and of a condition's images, under changes of the arguments of an evaluation."""

    def names(readout=KMEANS, condition=FOG, of=None, sample=None, settings=None, **changes):
        plan = replace(
            make_plan(of or encoder(), EvaluationOptions(**ARGUMENTS | {"data": colours} | changes)), **settings or {}
        )
        if sample:
            changed = replace(plan.samples.get(condition, plan.samples[CLEAN]), **sample)
            plan = replace(plan, samples={**plan.samples, condition: changed})
        return plan.key(plan.candidates[0], readout, condition), plan.about(condition)

    return names


@pytest.mark.parametrize(
    "change",
    [
        {"of": encoder("other weights")},
        {"feature": "backbone+l2"},
        {"readout": Clustered("ward")},
        {"readout": Probed("knn")},
        {"readout": Described()},
        {"readout": Stable("kmeans")},
        {"k": "2-5"},
        {"k": 3},
        {"k_by": "silhouette"},
        {"seeds": 4},
        {"protocols": ["refit"]},
        {"settings": {"limit": 21}},
    ],
    ids=lambda change: "-".join(change),
)
def test_what_names_a_cell_but_not_its_images(names, change):
    key, about = names()
    other, same = names(**change)
    assert key != other
    assert about == same


@pytest.mark.parametrize(
    "change",
    [
        {"condition": Condition("corruption", "fog", 2, "cifar")},
        {"condition": CLEAN},
        {"seed": 1},
        {"limit": 21},
        {"sample": {"digest": "other files"}},
        {"sample": {"rows": np.arange(19)}},
        {"sample": {"rows": None, "images": torch.zeros(20, 3, 16, 16, dtype=torch.uint8)}},
    ],
    ids=lambda change: "-".join(change),
)
def test_what_names_images_and_with_them_a_cell(names, change):
    key, about = names()
    other_key, other = names(**change)
    assert key != other_key
    assert about != other


def test_a_limit_is_of_images_also_where_they_are_other_pictures(colours, tmp_path):
    images = colours.test.images.numpy().transpose(0, 2, 3, 1)
    np.savez(tmp_path / "own.npz", images=images, labels=colours.test.labels)
    (tmp_path / "names.yaml").write_text("0: red\n1: green\n2: blue\n")
    shift = f"npz:{tmp_path / 'own.npz'}?classes={tmp_path / 'names.yaml'}"
    plan = make_plan(encoder(), EvaluationOptions(**ARGUMENTS | {"data": colours, "shift": ["fog-1", shift]}))
    for condition in plan.samples:
        sample = plan.sample(condition)
        assert sample.n == len(sample.labels) == 20
    own = next(plan.sample(condition) for condition in plan.samples if condition.shift == "own")
    assert own.rows is None
    kept = [np.flatnonzero((colours.test.images == image).all(dim=(1, 2, 3))).item() for image in own.images[:]]
    assert own.labels.tolist() == colours.test.labels[kept].tolist()


def test_other_data_names_all_anew(names, colours):
    key, about = names()
    for side in ("train", "test"):
        split = getattr(colours, side)
        data = replace(colours, **{side: replace(split, images=255 - split.images)})
        other_key, other = names(data=data)
        assert key != other_key
        assert about != other


def test_the_same_k_from_another_source_is_another_cell(names):
    assert names(k=3)[0] != names(k=True)[0]


def test_the_default_folder_is_that_of_the_data(colours):
    others = replace(colours, train=replace(colours.train, images=255 - colours.train.images))
    folders = {
        make_plan(encoder(), EvaluationOptions(**ARGUMENTS | {"data": data, "results": None})).folder
        for data in (colours, others)
    }
    assert len(folders) == 2


def test_a_refit_of_fewer_classes_is_another_cell(names):
    """Where k is the number of classes, it is that of the classes that are there."""
    part = Condition("clean", split="test[part]")
    labels = np.arange(20) % 3
    key = names(condition=part, sample={"labels": labels}, k=True)[0]
    assert key == names(condition=part, sample={"labels": labels[::-1]}, k=True)[0]
    assert key != names(condition=part, sample={"labels": labels % 2}, k=True)[0]


def test_newer_code_finds_nothing_of_older(names, monkeypatch):
    key, about = names()
    monkeypatch.setattr(module, "RESULTS_VERSION", module.RESULTS_VERSION + 1)
    assert names()[0] != key
    assert names()[1] == about


def test_axes_name_what_is_measured_along_them_alone(names):
    stable = Stable("kmeans")
    assert names(stable)[0] != names(stable, stability=["bootstrap", "augmentation"])[0]
    assert names()[0] == names(stability=["bootstrap", "augmentation"])[0]
    # The starts and the shift are compared by partitions that are there anyway.
    assert names(stable)[0] == names(stable, stability=["bootstrap", "initialization", "shift"])[0]


def test_the_seed_of_corruptions_leaves_unchanged_images_their_name(names):
    """But not the cells: the seed also draws subsamples and views."""
    assert names(condition=CLEAN)[1] == names(condition=CLEAN, seed=1)[1]
    assert names(condition=CLEAN)[0] != names(condition=CLEAN, seed=1)[0]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"batch_size": 7},
        {"results": "elsewhere"},
        {"cache": "cache"},
        {"probes": []},
        {"clusterer": "kmeans"},
        {"shift": ["fog-1"]},
        {"shift": ["snow", "fog-1"]},
    ],
    ids=lambda change: "-".join(change),
)
def test_what_changes_no_number_changes_no_name(names, change):
    assert names(**change) == names()


def test_the_criterion_for_k_counts_only_where_it_is_asked(names):
    assert names(k=3)[0] == names(k=3, k_by="silhouette")[0]
