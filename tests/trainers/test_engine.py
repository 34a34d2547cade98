"""The loop: what a run leaves behind, that it repeats, what it refuses, and what it may do besides."""

import itertools
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from training_runs import kept, rows, weights

from shiftbench import images
from shiftbench.encoders.load import load_encoder
from shiftbench.errors import InputError
from shiftbench.registry import METHODS
from shiftbench.trainers import fit, train
from shiftbench.trainers import run as run_folder
from shiftbench.trainers.augment import Draws
from shiftbench.trainers.average import encoder_state
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
    trainer.load(run_folder.read_checkpoint(run))
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
    run = fit(tiny(f"method={method}", "trainer.schedule=cosine"))
    table = rows(run)
    assert [row["epoch"] for row in table] == ["1", "2", "3"]
    assert [float(row["lr"]) for row in table] == pytest.approx([0.05, 0.0375, 0.0125])
    for row in table:
        aside = ("epoch", "lr", "loss", "mass_min", "mass_max")
        terms = [float(value) for name, value in row.items() if name not in aside and not name.startswith("probe_")]
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
    runs = [run_folder.create(config, "pkg.mod:Class", "my data") for _ in range(5)]
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
    assert len(run_folder.read_checkpoint(run)["history"]) == 1
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
        (["trainer.method.gamma=-1"], r"weights must be >= 0"),
        (["seed=-1"], r"seed=-1 must be a whole number"),
        (["seed=abc"], r"seed='abc' must be a whole number"),
        (["limit=0"], r"limit=0 must be a whole number, at least 1"),
        (["limit=0.5"], r"limit=0.5 must be a whole number"),
        (["limit=8"], r"trainer.batch=16 is more than the 8 images of 'tiny'"),
        (["trainer.k=17"], r"concurl shares each batch out among k=17 clusters: trainer.batch=17, or more"),
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


# ---- the engine's own options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "drop_last", "steps"), [(16, "false", 3), (20, "false", 3), (20, "true", 2), (47, "false", 1)]
)
def test_steps_of_an_epoch(tiny, batch, drop_last, steps):
    """48 images; a last batch of one image is left out, since BatchNorm cannot do with it."""
    config = tiny(f"trainer.batch={batch}", f"trainer.drop_last={drop_last}")
    trainer = Trainer(config)
    done = []
    trainer.epoch(lambda count, text: done.append((count, text)))
    assert trainer.steps == steps
    assert sum(count for count, _ in done) == steps
    assert "exemplar" in done[-1][1]
    assert "images/s" in done[-1][1]


def test_an_epoch_visits_every_image_once_in_a_new_order(tiny):
    trainer = Trainer(tiny())
    seen, losses = [], trainer.method.losses
    trainer.method.losses = lambda views, index: seen.append(index.tolist()) or losses(views, index)
    trainer.epoch(lambda count, text: None)
    trainer.epoch(lambda count, text: None)
    first, second = (list(itertools.chain(*epoch)) for epoch in (seen[:3], seen[3:]))
    assert sorted(first) == sorted(second) == list(range(48))
    assert first != second


def test_a_limit_keeps_evenly_spaced_images(tiny):
    whole, part = Trainer(tiny()), Trainer(tiny("limit=24"))
    assert torch.equal(part.images, whole.images[np.linspace(0, 47, 24).round()])
    assert part.steps == 2
    assert len(part.method.bank.bank) == 24
    assert torch.equal(Trainer(tiny("limit=48")).images, whole.images)


def test_views_are_normalised_and_differ(tiny):
    trainer = Trainer(tiny("trainer.mean=[0,0,0]", "trainer.std=[1,1,1]"))
    caught = []
    losses = trainer.method.losses
    trainer.method.losses = lambda views, index: caught.extend(views) or losses(views, index)
    trainer._step(torch.arange(16), trainer.images[:16], Draws.seeded(0, 16))
    assert len(caught) == trainer.method.views == 2
    assert not torch.equal(*caught)
    for view in caught:
        assert view.shape == (16, 3, 16, 16)
        assert -1e-4 < view.min() < view.max() < 1 + 1e-4


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_only_the_backbone_computes_in_low_precision(tiny, precision):
    trainer = Trainer(tiny(f"trainer.precision={precision}", "trainer.epochs=1"))
    dtypes = []
    trainer.method.backbone.linear[0].register_forward_hook(lambda module, given, out: dtypes.append(out.dtype))
    trainer.epoch(lambda count, text: None)
    assert set(dtypes) == {getattr(torch, precision)}
    assert trainer.method.encode(torch.randn(2, 3, 16, 16)).dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in trainer.method.parameters())


def test_the_threads_asked_for_are_used_and_given_back(tiny, monkeypatch):
    before, seen, step = torch.get_num_threads(), set(), Trainer._step
    monkeypatch.setattr(Trainer, "_step", lambda *given: seen.add(torch.get_num_threads()) or step(*given))
    fit(tiny("trainer.epochs=1", "trainer.threads=3"))
    assert (seen, torch.get_num_threads()) == ({3}, before)


def test_a_method_of_the_users_own_trains_by_its_path(tiny, tmp_path, monkeypatch):
    """The counted promise: one module, no line of ours changed."""
    (tmp_path / "my_method.py").write_text(
        """
from shiftbench.encoders.backbones import Head
from shiftbench.trainers.base import Method

class Pull(Method):
    views = 3

    def __init__(self, backbone, *, samples, k, strength: float = 1.0):
        super().__init__(backbone, samples=samples, k=k)
        self.strength = strength
        self.heads["mine"] = Head([backbone.feature_dim, 5])

    def losses(self, views, index):
        first, second, third = (self.heads["mine"](self.encode(view)) for view in views)
        return {"pull": self.strength * (first - second).square().mean(), "size": (third.norm(dim=1) -
        1).square().mean()}
""",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    plain = tiny()
    method = {"name": "my_method:Pull", "strength": 2.0}
    run = fit({**plain, "trainer": {**plain["trainer"], "method": method}})
    assert "my_method-Pull" in run.name
    assert list(rows(run)[0]) == ["epoch", "lr", "loss", "pull", "size", "probe_spread", "probe_rank"]
    assert load_encoder(str(run), device="cpu")(torch.zeros(2, 3, 16, 16, dtype=torch.uint8)).shape == (2, 5)


def test_it_trains_on_cuda(tiny):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    config = {**tiny("trainer.precision=bfloat16"), "device": "cuda"}
    run = fit(config)
    assert len(rows(run)) == 3
    shutil.rmtree(run / "tensorboard", ignore_errors=True)


@pytest.mark.realdata
def test_the_published_cifar10_recipe_takes_a_step(real_data):
    """ResNet-18, 50,000 images, the published augmentation and losses: finite, and near their known starts."""
    from shiftbench.configs import compose

    trainer = Trainer(compose("train", ["data=cifar10", f"data.root='{real_data}'", "device=cpu"]))
    with torch.random.fork_rng():
        terms = trainer._step(torch.arange(32), trainer.images[:32], Draws.seeded(0, 32))
    assert len(trainer.images) == 50_000
    assert terms["exemplar"].item() == pytest.approx(9.32, abs=0.1)
    assert 2 < terms["consensus"].item() < 4


# ---- what the engine may do besides ------------------------------------------------------------------------------


def test_the_average_is_that_of_the_weights_after_each_step(tiny, monkeypatch):
    """By hand: decay min(d, (1 + t) / (10 + t)), BatchNorm's statistics too; it is what the run folder keeps."""
    seen, step = [], Trainer._step

    def watched(trainer, *given):
        if not seen:
            seen.append({name: value.clone() for name, value in encoder_state(trainer.method).items()})
        terms = step(trainer, *given)
        seen.append({name: value.clone() for name, value in encoder_state(trainer.method).items()})
        return terms

    monkeypatch.setattr(Trainer, "_step", watched)
    run = fit(tiny("trainer.ema=0.3"))
    saved = load_file(run / "encoder.safetensors")
    for name, value in saved.items():
        expected = seen[0][name].double()
        for t, after in enumerate(seen[1:], 1):
            decay = min(0.3, (1 + t) / (10 + t))
            expected = decay * expected + (1 - decay) * after[name].double()
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected, atol=1e-5, rtol=1e-4)
    assert not torch.equal(saved["backbone.linear.0.weight"], seen[-1]["backbone.linear.0.weight"])
    assert yaml.safe_load((run / "encoder.yaml").read_text(encoding="utf-8"))["train"]["weights"] == "average"


def test_half_precision_scales_its_loss(tiny):
    run = fit(tiny("trainer.precision=float16"))
    state = run_folder.read_checkpoint(run)
    assert state["scaler"]["scale"] > 1
    losses = [float(row["loss"]) for row in rows(run)]
    assert all(map(math.isfinite, losses))


def test_parts_of_a_batch_train_like_the_whole(tiny):
    """Where BatchNorm does not compare images, to rounding: the losses see all of the batch."""
    found = []
    for parts in (1, 2):
        trainer = Trainer(tiny(f"trainer.accumulate={parts}"))
        for module in trainer.method.backbone.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
                module.train = lambda mode=True, module=module: module
        trainer.epoch(lambda count, text: None)
        found.append(encoder_state(trainer.method))
    torch.testing.assert_close(found[1], found[0], atol=1e-4, rtol=1e-3)


def write_files(folder: Path, source: Path) -> None:
    with np.load(source) as file:
        for number, (image, label) in enumerate(zip(file["images"], file["labels"], strict=True)):
            place = folder / ("test" if number % 5 == 4 else "train") / f"class{label}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{number:03}.png")


def test_images_in_files_train_as_images_in_memory(tiny, tmp_path, monkeypatch):
    """Too many to decode at once: the same bytes, with decoding threads and a shuffled epoch."""
    tiny()
    write_files(tmp_path / "files", tmp_path / "tiny.npz")
    config = tiny("data=folder", f"data.path='{tmp_path}/files'", "data.size=16", "trainer.workers=2")
    memory = fit(config)
    monkeypatch.setattr(images, "IN_MEMORY", 0)
    assert isinstance(Trainer(config).images, images.ImageFiles)
    files = fit(config)
    for name in ("metrics.csv", "encoder.safetensors"):
        assert (files / name).read_bytes() == (memory / name).read_bytes()


def test_views_of_another_size_are_what_the_encoder_takes(tiny):
    run = fit(tiny("trainer.augmentation.size=24", "trainer.epochs=1"))
    about = yaml.safe_load((run / "encoder.yaml").read_text(encoding="utf-8"))
    assert about["preprocess"]["size"] == 24
    assert load_encoder(str(run), device="cpu")(torch.zeros(2, 3, 16, 16, dtype=torch.uint8)).shape == (2, 128)
