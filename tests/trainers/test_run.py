"""A training run: what it leaves behind, that it repeats, how it stops, and what it refuses."""

import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from training_runs import kept, rows, weights

from shiftbench.encoders.load import load_encoder
from shiftbench.errors import InputError
from shiftbench.registry import METHODS
from shiftbench.trainers import fit, run_files, train
from shiftbench.trainers.augment import ViewRng
from shiftbench.trainers.engine import Trainer

# ---- what a run leaves -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS.names())
def test_a_run_leaves_an_encoder_with_the_trained_features(tiny, method):
    config = tiny(f"method={method}")
    run = fit(config)
    about = yaml.safe_load((run / "encoder.yaml").read_text(encoding="utf-8"))
    wanted = {"method": method, "seed": 0, "data": "tiny", "epochs": 3, "selection": "last", "k": 3}
    assert wanted.items() <= about["train"].items()
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) == config

    trainer = Trainer(config)
    trainer.load(run_files.read_checkpoint(run))
    trainer.method.eval()
    with torch.inference_mode():
        hidden = trainer.method.encode(trainer.normalise(trainer.images))
        expected = {name: head(hidden) for name, head in trainer.method.heads.items()}
    features = load_encoder(str(run), device="cpu").features(trainer.images)
    assert next(iter(features)) == next(iter(expected))
    for name, value in expected.items():
        torch.testing.assert_close(features[name], value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS.names())
def test_metrics_hold_one_row_per_epoch_and_the_terms_add_up(tiny, method):
    config = tiny(f"method={method}", "trainer.schedule=cosine")
    trainer = Trainer(config)
    names = trainer._step(torch.arange(16), trainer.images[:16], ViewRng.seeded(0, 16)).keys()
    table = rows(fit(config))
    assert [row["epoch"] for row in table] == ["1", "2", "3"]
    assert [float(row["lr"]) for row in table] == pytest.approx([0.05, 0.0375, 0.0125])
    for row in table:
        terms = [float(row[name]) for name in names]
        assert float(row["loss"]) == pytest.approx(sum(terms))
        assert all(map(math.isfinite, terms))


def test_the_first_loss_is_near_its_known_start(tiny):
    """With a rate of nearly 0, NCE stays at ln(1 + m) + 1."""
    run = fit(tiny("trainer.epochs=1", "trainer.batch=48", "trainer.lr=1e-9", "trainer.method.negatives=32"))
    assert float(rows(run)[0]["exemplar"]) == pytest.approx(math.log(33) + 1, abs=0.1)


def test_training_lowers_the_loss(tiny):
    run = fit(tiny("trainer.epochs=12", "trainer.augmentation.crop=[0.9,1.0]"))
    losses = [float(row["loss"]) for row in rows(run)]
    assert losses[-1] < 0.9 * losses[0]


def test_run_json_names_versions_and_times(tiny):
    run = fit(tiny())
    [start] = json.loads((run / "run.json").read_text(encoding="utf-8"))["starts"]
    assert start["versions"]["torch"]
    assert (start["first_epoch"], start["last_epoch"]) == (1, 3)
    assert start["threads"] == 1
    assert start["images_per_second"] > 0


def test_tensorboard_is_written_where_it_is_installed(tiny, monkeypatch):
    pytest.importorskip("tensorboard")
    run = fit(tiny("trainer.epochs=1"))
    assert list((run / "tensorboard").iterdir())
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run = fit(tiny("trainer.epochs=1"))
    assert not (run / "tensorboard").exists()


def test_runs_that_begin_in_the_same_second_have_their_own_folders(tiny):
    config = tiny()
    runs = [run_files.create(config, "pkg.mod:Class", "my data") for _ in range(5)]
    assert len(set(runs)) == 5
    assert all(run.is_dir() for run in runs)
    assert "_pkg.mod-Class_my-data_seed0" in runs[0].name


def test_train_composes_and_fits(tiny, tmp_path):
    tiny()
    run = train("concurl", "npz", [f"data.path='{tmp_path}/tiny.npz'", f"runs='{tmp_path}/here'", "trainer.epochs=1",
                                   "trainer.backbone=small_cnn", "trainer.batch=24", "device=cpu"])  # fmt: skip
    assert run.parent == tmp_path / "here"
    assert (run / "encoder.yaml").is_file()


# ---- the same again ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_the_seed_decides_every_bit(tiny, threads):
    config = tiny(f"trainer.threads={threads}")
    first = fit(config)
    torch.manual_seed(123)
    assert kept(fit(config)) == kept(first)
    assert weights(fit({**config, "seed": 1})) != weights(first)


def test_the_callers_random_state_is_left_alone(tiny):
    before = torch.get_rng_state()
    fit(tiny("trainer.epochs=1"))
    assert torch.equal(torch.get_rng_state(), before)


def test_labels_are_not_used(tiny, tmp_path):
    run = fit(tiny())
    with np.load(tmp_path / "tiny.npz") as file:
        images, labels = file["images"], file["labels"]
    np.savez(tmp_path / "shuffled.npz", images=images, labels=np.random.default_rng(0).permutation(labels))
    np.savez(tmp_path / "unlabelled.npz", images=images)
    assert weights(fit(tiny(f"data.path='{tmp_path}/shuffled.npz'"))) == weights(run)
    assert weights(fit(tiny(f"data.path='{tmp_path}/unlabelled.npz'", "trainer.k=3"))) == weights(run)


# ---- how it stops ------------------------------------------------------------------------------------------------


def test_an_unwritable_folder_is_an_os_error(tiny, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match="file"):
        fit(tiny(f"runs='{tmp_path}/file/runs'"))


def test_a_full_disk_is_an_os_error_and_the_checkpoint_stays(tiny, monkeypatch):
    config, save, calls = tiny(), torch.save, itertools.count(1)

    def full(state, path):
        if next(calls) == 2:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(state, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        fit(config)
    [run] = Path(config["runs"]).iterdir()
    assert len(run_files.read_checkpoint(run)["history"]) == 1
    assert not list(run.glob(".checkpoint*"))


# ---- what cannot be trained --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.batch=49"], r"trainer.batch=49 is more than the 48 images of 'tiny'"),
        (["trainer.k=1"], r"trainer.k=1 must be at least 2"),
        (["trainer.k=49"], r"k=49 clusters for 48 images"),
        (["trainer.epochs=0"], r"trainer.epochs=0 must be at least 1"),
        (["trainer.backbone=resnet50"], r"resnet50 needs square images of at least 64 pixels, .* 'tiny' are 16x16"),
        (["trainer.backbone=smal_cnn"], r"Did you mean 'small_cnn'"),
        (["+trainer.method.taus=1"], r"Unknown option of trainer.method 'taus'. Did you mean 'tau'\?"),
        (["+trainer.warmups=1"], r"Unknown option of trainer 'warmups'. Did you mean 'warmup'\?"),
        (["+trainer.augmentation.flips=1"], r"Unknown option of trainer.augmentation 'flips'"),
        (["+sed=1"], r"Unknown option 'sed'. Did you mean 'seed'\?"),
        (["trainer.method.samples=3"], r"no option 'trainer.method.samples'"),
        (["+trainer.method.samples=3"], r"Unknown option of trainer.method 'samples'"),
        (["trainer.method.name=concrul"], r"Unknown method 'concrul'. Did you mean 'concurl'\?"),
        (["trainer.method.name=torch.nn:Linear"], r"torch.nn:Linear is not a Method"),
        (["trainer.method.gamma=-1"], r"trainer.method.gamma=-1.0 must be at least 0"),
        (["seed=-1"], r"seed=-1 must be a whole number"),
        (["seed=abc"], r"seed='abc' must be a whole number"),
        (["limit=0"], r"limit=0 must be a whole number, at least 1"),
        (["limit=0.5"], r"limit=0.5 must be a whole number"),
        (["limit=8"], r"trainer.batch=16 is more than the 8 images of 'tiny'"),
        (["trainer.k=17"], r"concurl compares k=17 clusters within each batch: set trainer.batch=17, or more"),
        (["trainer.augmentation.clean=[2]"], r"clean=\[2\]: concurl has 2 views, counted from 0"),
        (["device=tpu"], r"device"),
        (["~runs"], r"The configuration lacks 'runs'"),
        (["resume=nowhere"], r"Cannot resume 'nowhere': there is no config.yaml"),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_no_folder(tiny, tmp_path, overrides, message):
    with pytest.raises(InputError, match=message) as caught:
        fit(tiny(*overrides))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_unlabelled_images_need_a_number_of_clusters(tiny, tmp_path):
    np.savez(tmp_path / "plain.npz", images=np.zeros((60, 16, 16, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="'plain' names no classes: set the number of clusters"):
        fit(tiny(f"data.path='{tmp_path}/plain.npz'"))
