"""The loop: what a run leaves behind, that it repeats and resumes exactly, and how it stops."""

import csv
import itertools
import json
import math
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from sklearn.neighbors import NearestNeighbors

from shiftbench import images
from shiftbench.encoders import load_encoder
from shiftbench.errors import InputError
from shiftbench.registry import METHODS
from shiftbench.trainers import engine, fit, train
from shiftbench.trainers import run as run_folder
from shiftbench.trainers.augment import Draws
from shiftbench.trainers.average import encoder_state
from shiftbench.trainers.concurl import ConCURL
from shiftbench.trainers.engine import Trainer
from shiftbench.trainers.monitor import Monitor

KEPT = ("config.yaml", "metrics.csv", "encoder.safetensors", "encoder.yaml")


def kept(run: Path) -> dict[str, bytes]:
    """What two equal runs have in common, byte for byte."""
    return {name: (run / name).read_bytes() for name in KEPT}


def weights(run: Path) -> bytes:
    return (run / "encoder.safetensors").read_bytes()


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def stop_after(monkeypatch: pytest.MonkeyPatch, epochs: int, error: BaseException) -> None:
    """The epoch after these raises, in its second step."""
    calls = itertools.count()
    step = Trainer._step

    def interrupted(trainer, *arguments):
        if next(calls) == epochs * trainer.steps + 1:
            raise error
        return step(trainer, *arguments)

    monkeypatch.setattr(Trainer, "_step", interrupted)


class Killed(BaseException):
    """As little as possible happens after it, as with a killed process."""


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


@pytest.mark.parametrize("method", METHODS.names())
@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_a_stopped_run_resumes_to_the_same_bytes(tiny, monkeypatch, method, epochs):
    config = tiny(f"method={method}")
    whole = kept(fit(config))
    with monkeypatch.context() as patch:
        stop_after(patch, epochs, Killed())
        with pytest.raises(Killed):
            fit(config)
    stopped = sorted((Path(config["runs"])).iterdir())[-1]
    assert not (stopped / "encoder.yaml").exists()
    torch.manual_seed(99)
    assert fit({**config, "resume": str(stopped)}) == stopped
    assert kept(stopped) == whole
    starts = json.loads((stopped / "run.json").read_text(encoding="utf-8"))["starts"]
    assert [start["first_epoch"] for start in starts] == [1, epochs + 1]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_optimisers_state_is_resumed(tiny, monkeypatch, optimizer):
    config = tiny(f"trainer.optimizer={optimizer}", "trainer.lr=0.003")
    whole = kept(fit(config))
    with monkeypatch.context() as patch:
        stop_after(patch, 2, Killed())
        with pytest.raises(Killed):
            fit(config)
    stopped = sorted((Path(config["runs"])).iterdir())[-1]
    fit({**config, "resume": str(stopped)})
    assert kept(stopped) == whole


@pytest.mark.parametrize("moment", ["save_checkpoint", "write_metrics", "save_encoder"])
def test_a_kill_between_two_files_is_resumed(tiny, monkeypatch, moment):
    """After the last epoch but before its checkpoint, between checkpoint and metrics, before the encoder."""

    def kill(*arguments, **options):
        if moment == "save_encoder" or len(arguments[1] if moment == "write_metrics" else arguments[1]["history"]) == 3:
            raise Killed

    config = tiny()
    whole = kept(fit(config))
    with monkeypatch.context() as patch:
        patch.setattr(engine if moment == "save_encoder" else run_folder, moment, kill)
        with pytest.raises(Killed):
            fit(config)
    stopped = sorted((Path(config["runs"])).iterdir())[-1]
    fit({**config, "resume": str(stopped)})
    assert kept(stopped) == whole


def test_a_run_killed_while_it_writes_its_checkpoint_resumes_exactly(tiny, tmp_path, run_python):
    """SIGKILL in another process, with half of the second checkpoint on disk."""
    config = tiny()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    child = f"""
import os, signal, torch, yaml
from shiftbench.trainers import fit
save, calls = torch.save, []
def half(state, path):
    calls.append(path)
    save(state, path)
    if len(calls) == 2:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
torch.save = half
fit(yaml.safe_load(open({str(tmp_path / "config.yaml")!r})))
"""
    assert run_python(child).returncode == -signal.SIGKILL
    [stopped] = Path(config["runs"]).iterdir()
    assert [row["epoch"] for row in rows(stopped)] == ["1"]
    fit({**config, "resume": str(stopped)})
    assert kept(stopped) == kept(fit(config))


def test_resuming_a_finished_run_says_so_and_changes_nothing(tiny, capsys):
    config = tiny("trainer.epochs=1")
    run = fit(config)
    before = {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in run.rglob("*")}
    assert fit({**config, "resume": str(run)}) == run
    assert "already finished" in capsys.readouterr().err
    assert {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in run.rglob("*")} == before


def test_a_resumed_run_follows_its_own_configuration(tiny, monkeypatch):
    config = tiny("seed=4")
    whole = kept(fit(config))
    with monkeypatch.context() as patch:
        stop_after(patch, 1, Killed())
        with pytest.raises(Killed):
            fit(config)
    stopped = sorted((Path(config["runs"])).iterdir())[-1]
    fit(tiny("seed=0", "trainer.epochs=9", f"resume='{stopped}'"))
    assert kept(stopped) == whole


# ---- how it stops ------------------------------------------------------------------------------------------------


def test_ctrl_c_keeps_the_last_epoch_and_says_how_to_go_on(tiny, monkeypatch, capsys):
    config = tiny()
    stop_after(monkeypatch, 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fit(config)
    [run] = Path(config["runs"]).iterdir()
    assert f"Stopped with 2 of 3 epochs saved. Go on with: shiftbench train resume={run}" in capsys.readouterr().err
    assert len(run_folder.read_checkpoint(run)["history"]) == len(rows(run)) == 2


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
    state = run_folder.read_checkpoint(run)
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
    assert len(run_folder.read_checkpoint(run)["history"]) == 1


def test_a_learning_rate_far_too_high_ends_in_one_line(tiny):
    with pytest.raises(InputError, match=r"Try a lower trainer\.lr \(now 1e\+30\)"):
        fit(tiny("trainer.lr=1e30"))


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


def test_a_bank_of_another_data_set_is_refused(tiny, monkeypatch, tmp_path):
    config = tiny()
    stop_after(monkeypatch, 1, Killed())
    with pytest.raises(Killed):
        fit(config)
    [run] = Path(config["runs"]).iterdir()
    np.savez(tmp_path / "tiny.npz", images=np.ones((80, 16, 16, 3), dtype=np.uint8), labels=np.arange(80) % 3)
    with pytest.raises(InputError, match="trained on other images"):
        fit({**config, "resume": str(run)})


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_one_clear_line(tiny, monkeypatch, content):
    config = tiny()
    with monkeypatch.context() as patch:
        stop_after(patch, 1, Killed())
        with pytest.raises(Killed):
            fit(config)
    [run] = Path(config["runs"]).iterdir()
    whole = (run / "checkpoint.pt").read_bytes()
    (run / "checkpoint.pt").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(InputError, match="damaged"):
        fit({**config, "resume": str(run)})


@pytest.mark.parametrize("content", ["", "a: [", "- 1", "seed: 0"])
def test_a_damaged_configuration_is_one_clear_line(tmp_path, tiny, content):
    (tmp_path / "config.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"damaged|lacks") as caught:
        fit({**tiny(), "resume": str(tmp_path)})
    assert "\n" not in str(caught.value)


def test_a_checkpoint_holds_tensors_and_plain_values_only(tiny):
    run = fit(tiny("trainer.epochs=1"))
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    assert {"bank.bank", "bank.normalizer", "transforms"} <= set(state["method"])
    assert state["method"]["bank.normalizer"] > 0


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


def stopped_run(config, monkeypatch, epochs: int) -> Path:
    with monkeypatch.context() as patch:
        stop_after(patch, epochs, Killed())
        with pytest.raises(Killed):
            fit(config)
    return sorted(Path(config["runs"]).iterdir())[-1]


@pytest.mark.parametrize(
    "overrides", [["trainer.ema=0.9"], ["trainer.precision=float16"], ["trainer.accumulate=2", "trainer.warmup=0.4"]]
)
def test_a_run_with_more_state_resumes_to_the_same_bytes(tiny, monkeypatch, overrides):
    config = tiny(*overrides)
    whole = kept(fit(config))
    stopped = stopped_run(config, monkeypatch, 2)
    fit({**config, "resume": str(stopped)})
    assert kept(stopped) == whole


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
        for t, weights in enumerate(seen[1:], 1):
            decay = min(0.3, (1 + t) / (10 + t))
            expected = decay * expected + (1 - decay) * weights[name].double()
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


@pytest.mark.parametrize(("keep", "every", "expected"), [(1, 1, []), (2, 1, [4, 5]), (3, 2, [2, 4, 5])])
def test_the_last_checkpoints_are_kept(tiny, keep, every, expected):
    run = fit(tiny("trainer.epochs=5", f"trainer.keep={keep}", f"trainer.checkpoint_every={every}"))
    found = sorted(run.glob("checkpoint-*.pt"))
    assert [path.name for path in found] == [f"checkpoint-{number}.pt" for number in expected]
    for path, number in zip(found, expected, strict=True):
        assert len(torch.load(path, weights_only=True)["history"]) == number
    assert len(run_folder.read_checkpoint(run)["history"]) == len(rows(run)) == 5


def test_a_damaged_checkpoint_names_the_one_before(tiny, monkeypatch):
    config = tiny("trainer.keep=2")
    whole = kept(fit(config))
    run = stopped_run(config, monkeypatch, 2)
    (run / "checkpoint.pt").write_bytes(b"")
    with pytest.raises(InputError, match=r"Put checkpoint-1\.pt in its place to go on from epoch 1\."):
        fit({**config, "resume": str(run)})
    shutil.copy(run / "checkpoint-1.pt", run / "checkpoint.pt")
    fit({**config, "resume": str(run)})
    assert kept(run) == whole


def test_between_two_checkpoints_a_stop_goes_back_to_the_last(tiny, monkeypatch):
    config = tiny("trainer.checkpoint_every=2")
    whole = kept(fit(config))
    run = stopped_run(config, monkeypatch, 1)
    assert not (run / "checkpoint.pt").exists()
    fit({**config, "resume": str(run)})
    assert kept(run) == whole


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


@pytest.mark.parametrize("where", ["losses", "images"])
def test_the_end_of_memory_names_the_batch_to_try(tiny, monkeypatch, where):
    def full(*given, **options):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    if where == "losses":
        monkeypatch.setattr(ConCURL, "losses", full)
    else:
        monkeypatch.setattr(engine, "resident", full)
    with pytest.raises(InputError, match=r"cpu has not enough memory for trainer.batch=16 .* Try trainer.batch=8"):
        fit(tiny())
