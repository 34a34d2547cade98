"""What is looked at while a run goes on: labels when asked, collapse, losses that are no numbers, the end of memory."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from sklearn.neighbors import NearestNeighbors
from training_runs import rows, stopped_run, weights

from shiftbench.encoders.load import load_encoder
from shiftbench.errors import InputError
from shiftbench.trainers import engine, fit, run_files
from shiftbench.trainers.concurl import ConCURL
from shiftbench.trainers.engine import Trainer
from shiftbench.trainers.monitor import Monitor


def test_labels_are_looked_at_only_when_asked(tiny):
    plain, watched = fit(tiny()), fit(tiny("trainer.monitor=true", "trainer.monitor_every=2"))
    assert not any("monitor" in name for name in rows(plain)[0])
    table = rows(watched)
    assert [bool(row["monitor_acc"]) for row in table] == [False, True, True]  # every second, and the last
    assert all(0 <= float(row["monitor_knn"]) <= 1 for row in table[1:])
    assert weights(plain) == weights(watched)  # watching changes nothing


def test_monitored_scores_are_of_the_default_feature(tiny):
    run = fit(tiny("trainer.monitor=true", "trainer.epochs=1"))
    trainer = Trainer(tiny())
    features = load_encoder(str(run), device="cpu")(trainer.images).numpy()
    labels = trainer.data.train.labels
    near = NearestNeighbors(n_neighbors=20, metric="cosine").fit(features[::2])
    neighbours = near.kneighbors(features[1::2], return_distance=False)
    votes = np.array([np.bincount(labels[::2][row], minlength=3).argmax() for row in neighbours])
    assert float(rows(run)[0]["monitor_knn"]) == pytest.approx(np.mean(votes == labels[1::2]), abs=0.05)


def test_the_monitored_accuracy_is_that_of_clusters_matched_to_classes():
    """Three far groups under other numbers, and every tenth image with the label of another group: 0.9."""
    groups = np.repeat([0, 1, 2], 40)
    labels = (groups + 1 + (np.arange(120) % 10 == 0)) % 3
    features = 10 * torch.eye(3)[groups] + 0.1 * torch.randn(120, 3, generator=torch.Generator().manual_seed(0))
    assert Monitor(labels, 3, 0).scores(features)["monitor_acc"] == pytest.approx(0.9)


def test_the_oracles_choice_is_labelled_so(tiny, monkeypatch):
    """The weights are those of the epoch with the best score, after a stop too; encoder.yaml says who chose."""
    constant = "trainer.schedule=constant"
    two_epochs = load_file(fit(tiny(constant, "trainer.epochs=2")) / "encoder.safetensors")
    scores = iter([0.3, 0.9, 0.9])
    monkeypatch.setattr(Monitor, "scores", lambda *given: {"monitor_acc": next(scores), "monitor_knn": 0.0})
    config = tiny(constant, "trainer.monitor=true", "trainer.monitor_every=1", "trainer.select=oracle")
    run = stopped_run(config, monkeypatch, 2)
    fit({**config, "resume": str(run)})
    about = yaml.safe_load((run / "encoder.yaml").read_text(encoding="utf-8"))["train"]
    assert (about["selection"], about["epoch"], about["epochs"]) == ("oracle", 2, 3)
    torch.testing.assert_close(load_file(run / "encoder.safetensors"), two_epochs, atol=0, rtol=0)


def test_monitoring_needs_labels(tiny, tmp_path):
    np.savez(tmp_path / "plain.npz", images=np.zeros((60, 16, 16, 3), dtype=np.uint8))
    with pytest.raises(InputError, match=r"trainer.monitor=true compares with labels, and these images have none"):
        fit(tiny(f"data.path='{tmp_path}/plain.npz'", "trainer.k=3", "trainer.monitor=true"))


@pytest.fixture
def collapsing(tiny, tmp_path, monkeypatch):
    """A method that maps all images to one point."""
    (tmp_path / "collapsing.py").write_text(
        """
import torch
from shiftbench.encoders.backbones import Head
from shiftbench.trainers.base import Method

class Point(Method):
    views = 1

    def __init__(self, backbone, *, samples, k):
        super().__init__(backbone, samples=samples, k=k)
        self.heads["point"] = Head([backbone.feature_dim, 4])
        torch.nn.init.zeros_(self.heads["point"][0].weight)

    def losses(self, views, index):
        return {"nothing": 0 * self.heads["point"](self.encode(views[0])).sum() + 1}
""",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)

    def config(*overrides):
        plain = tiny("trainer.epochs=5", *overrides)
        return {**plain, "trainer": {**plain["trainer"], "method": {"name": "collapsing:Point"}}}

    return config


def test_a_collapse_is_told_once_and_goes_on(collapsing, capsys):
    run = fit(collapsing())
    heard = capsys.readouterr().err
    assert heard.count("Collapsed by epoch") == 1
    assert "Collapsed by epoch 3: all images have nearly the same features" in heard
    assert len(rows(run)) == 5


def test_a_collapse_stops_the_run_where_that_is_asked_for(collapsing):
    config = collapsing("trainer.collapse=stop")
    with pytest.raises(InputError, match=r"Collapsed by epoch 3: .* trainer.collapse=warn goes on regardless"):
        fit(config)
    [run] = Path(config["runs"]).iterdir()
    assert len(rows(run)) == 3
    assert not (run / "encoder.yaml").exists()


def test_a_collapse_is_not_looked_for_where_it_is_ignored(collapsing, capsys):
    run = fit(collapsing("trainer.collapse=ignore"))
    assert "Collapsed" not in capsys.readouterr().err
    assert not any(name.startswith("probe_") for name in rows(run)[0])


def test_the_share_of_the_largest_cluster_is_watched(tiny):
    """Of a method with a head of that name."""
    for row in rows(fit(tiny("method=cc"))):
        assert 1 / 3 <= float(row["probe_largest_cluster"]) <= 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run(tiny, monkeypatch, bad):
    """It names the term, the epoch and the step, and the state of the epoch before stays."""
    losses, calls = ConCURL.losses, itertools.count(1)

    def broken(method, views, index):
        terms = losses(method, views, index)
        return {**terms, "consensus": terms["consensus"] * (bad if next(calls) == 5 else 1)}

    monkeypatch.setattr(ConCURL, "losses", broken)
    config = tiny()
    with pytest.raises(InputError, match=r"'consensus' became (nan|inf) in epoch 2, step 2\. .*trainer\.lr") as caught:
        fit(config)
    assert "\n" not in str(caught.value)
    [run] = Path(config["runs"]).iterdir()
    state = run_files.read_checkpoint(run)
    assert len(state["history"]) == 1
    assert all(value.isfinite().all() for value in state["method"].values())
    assert not (run / "encoder.yaml").exists()


def test_weights_that_are_no_numbers_are_never_saved(tiny, monkeypatch):
    """The loss of the last step can be finite while the step it takes is not."""
    calls, after = itertools.count(1), ConCURL.after_step

    def broken(method):
        after(method)
        if next(calls) == 6:
            method.heads["head"][0].weight.fill_(math.nan)

    monkeypatch.setattr(ConCURL, "after_step", broken)
    config = tiny()
    with pytest.raises(InputError, match="weights are no longer finite numbers after epoch 2"):
        fit(config)
    [run] = Path(config["runs"]).iterdir()
    assert len(run_files.read_checkpoint(run)["history"]) == 1


def test_a_learning_rate_far_too_high_ends_in_one_line(tiny):
    with pytest.raises(InputError, match=r"Try a lower trainer\.lr \(now 1e\+30\)"):
        fit(tiny("trainer.lr=1e30"))


@pytest.mark.parametrize("where", ["losses", "images", "method"])
def test_the_end_of_memory_names_the_batch_to_try(tiny, monkeypatch, where):
    def full(*given, **options):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    if where == "losses":
        monkeypatch.setattr(ConCURL, "losses", full)
    else:
        monkeypatch.setattr(engine, {"images": "resident", "method": "build_method"}[where], full)
    with pytest.raises(InputError, match=r"cpu has not enough memory for trainer.batch=16 .* Try trainer.batch=8"):
        fit(tiny())
