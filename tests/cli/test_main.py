"""The command line: what users type, and what they are told when it cannot work."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console

from shiftbench.cli.main import KINDS, main
from shiftbench.encoders.backbones import Head, build_backbone
from shiftbench.encoders.run_folder import save_encoder
from shiftbench.evaluation.evaluate import evaluate
from shiftbench.reports.tables import terminal_table
from shiftbench.runtime.console import print_whole

QUICK = ["trainer.epochs=1", "trainer.batch=256"]
CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run():
    """A finished run of an untrained network: everything evaluate needs, without the training."""
    torch.manual_seed(0)
    backbone = build_backbone("small_cnn")
    folder = Path("runs") / "2026-01-01_mine"
    save_encoder(
        folder, name="mine", backbone_name="small_cnn", backbone=backbone,
        heads={"head": Head([backbone.feature_dim, 8], normalize=True)}, mean=(0.5,) * 3, std=(0.5,) * 3, size=32,
        train={"seed": 0, "data": "digits", "selection": "last"},
    )  # fmt: skip
    return folder


def said(capsys, *arguments):
    """Exit code, stdout and stderr of one command line."""
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def shell(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "shiftbench", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)} | environment,
        check=False,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["evaluate", "--help"], ["list", "methods"]])
def test_help_and_lists_load_no_torch(arguments):
    code = (
        f"import sys; from shiftbench.cli.main import main\ntry: main({arguments!r})\nexcept SystemExit: pass\n"
        "assert not {'torch', 'pandas', 'hydra', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_lists_come_from_the_registry(capsys, kind):
    code, out, _ = said(capsys, "list", kind)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if line[0] != " "] == list(KINDS[kind])


def test_cfg_job_prints_the_composed_configuration(capsys):
    code, out, _ = said(capsys, "train", "--cfg", "job", "--method", "concurl", "trainer.epochs=7")
    assert code == 0
    config = yaml.safe_load(out)
    assert config["trainer"]["epochs"] == 7
    assert config["trainer"]["method"]["name"] == "concurl"
    code, out, _ = said(capsys, "evaluate", "--cfg", "job", "--shift", "fog", "--shift", "corruption", "--limit", "3")
    config = yaml.safe_load(out)
    assert config["shift"] == ["fog", "corruption"]
    assert config["limit"] == 3


@pytest.mark.parametrize("path", ["a=b.pt", "with space.pt", "it's, [odd] {name}.pt", "a\\b.pt", "tail\\"])
def test_a_checkpoint_path_may_hold_any_character(capsys, path):
    code, out, _ = said(capsys, "evaluate", "--cfg", "job", "--checkpoint", path, "--checkpoint", "pixels")
    assert code == 0
    assert yaml.safe_load(out)["checkpoint"] == [path, "pixels"]


def test_data_folder_sugar(capsys):
    _, out, _ = said(capsys, "evaluate", "--cfg", "job", "--data", "folder:/some where/x=y")
    assert yaml.safe_load(out)["data"]["path"] == "/some where/x=y"


def test_evaluate_takes_the_newest_run_and_says_so(capsys, run):
    code, out, err = said(capsys, "evaluate", "--shift", "fog-3", "--limit", "60", "seeds=2")
    assert code == 0, err
    assert str(run) in err
    folder = next(Path("results").iterdir())
    assert (folder / "report.html").is_file()
    assert "report.html" in err.replace("\n", "")
    for name in ("mine", "pixels", "random"):
        assert name in out


def test_evaluate_the_users_images(capsys):
    rng = np.random.default_rng(0)
    np.savez("mine.npz", images=rng.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8), labels=np.arange(40) % 3)
    code, _, err = said(
        capsys, "evaluate", "--checkpoint", "pixels", "--data", "npz:mine.npz", "seeds=2", "results=out"
    )
    assert code == 0, err
    assert Path("out/cells.csv").is_file()


def test_evaluate_unlabelled_images(capsys):
    np.savez("bare.npz", images=np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8))
    arguments = ["--checkpoint", "pixels", "--data", "npz:bare.npz", "--shift", "fog-2", "seeds=2", "k=3"]
    code, _, err = said(capsys, "evaluate", *arguments)
    assert code == 0, err


def test_report_of_saved_results(capsys, run):
    assert said(capsys, "evaluate", "--limit", "60", "seeds=2", "results=r")[0] == 0
    code, _, err = said(capsys, "report", "r", "-o", "page")
    assert code == 0, err
    assert "<html" in Path("page/report.html").read_text()


def test_multirun_sweeps(capsys, run):
    code, _, err = said(
        capsys, "evaluate", "-m", "--checkpoint", "pixels", "--limit", "40", "seeds=2,3", "floors=[]", "data=digits"
    )
    assert code == 0, err
    assert len([folder for folder in Path("results").iterdir() if folder.name.startswith("digits-")]) == 2


def test_train_then_evaluate(capsys):
    assert said(capsys, "train", *QUICK)[0] == 0
    code, out, err = said(capsys, "evaluate", "--limit", "60", "seeds=2")
    assert code == 0, err
    assert "concurl" in out


def test_doctor(capsys, run):
    code, out, _ = said(capsys, "doctor", "--checkpoint", str(run))
    assert code == 0
    for word in ("torch", "digits", "head (default): 8 dimensions", "images/s"):
        assert word in out


def test_cache_lists_and_prunes(capsys, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said(capsys, "cache", "list")[1].startswith("No features in")
    words = ("evaluate", "--checkpoint", str(run), "--data", "digits", "--limit", "40", "seeds=2", "floors=[]")
    assert said(capsys, *words)[0] == 0
    code, out, _ = said(capsys, "cache", "list")
    assert code == 0
    assert "2 entries" in out  # the train and the test split
    assert "Removed 0 entries" in said(capsys, "cache", "prune", "--unused", "1")[1]
    assert "Removed 0 entries" in said(capsys, "cache", "prune", "--keep", "1GB")[1]
    assert "Removed 2 entries" in said(capsys, "cache", "prune")[1]
    code, _, error = said(capsys, "cache", "prune", "--keep", "much")
    assert (code, "a size like 500MB" in error) == (2, True)


def test_convert_leaves_tensors_alone(capsys, tmp_path):
    import torch
    from safetensors.torch import load_file

    torch.save({"state_dict": {"weight": torch.ones(2)}, "epoch": 3}, tmp_path / "in.pt")
    code, _, error = said(capsys, "convert", str(tmp_path / "in.pt"), str(tmp_path / "out.safetensors"))
    assert code == 0, error
    assert any(torch.equal(tensor, torch.ones(2)) for tensor in load_file(tmp_path / "out.safetensors").values())
    assert said(capsys, "convert", str(tmp_path / "no.pt"), str(tmp_path / "x.safetensors"))[0] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--method", "concrul"], "Unknown method 'concrul'. Did you mean 'concurl'?"),
        (["train", "method=concrul"], "Unknown method 'concrul'. Did you mean 'concurl'?"),
        (["train", "--data", "digit"], "Unknown data set 'digit'. Did you mean 'digits'?"),
        (["train", "trainer.epoch=3"], "epoch"),
        (["train", "trainer.epochs=0"], "epochs"),
        (["train", "resume=nowhere"], "nowhere"),
        (["train", "nonsense"], "nonsense"),
        (["evaluate"], "No finished run in 'runs'"),
        (["evaluate", "--checkpoint", "nowhere.pt"], "No checkpoint 'nowhere.pt'"),
        (["evaluate", "--checkpoint", "notes.txt"], "'notes.txt' is not a checkpoint"),
        (["evaluate", "--checkpoint", "pixels", "--shift", "corupption"], "Did you mean 'corruption'?"),
        (["evaluate", "--checkpoint", "pixels", "--shift", "fog-6"], "severity must be 1, 2, 3, 4 or 5"),
        (["evaluate", "--checkpoint", "pixels", "k=400"], "k=400: between 2 and 360"),
        (["evaluate", "--checkpoint", "pixels", "--data", "folder:empty"], "No images in 'empty'"),
        (["evaluate", "--checkpoint", "pixels", "--data", "folder:none"], "No folder 'none'"),
        (["evaluate", "--checkpoint", "pixels", "data=folder"], "data.path"),
        (["evaluate", "--checkpoint", "pixels", "seed=x"], "seed=x: a whole number"),
        (["evaluate", "--checkpoint", "pixels", "seed=-1"], "seed=-1: a whole number"),
        (["evaluate", "--checkpoint", "pixels", "feature=hed"], "Unknown feature 'hed'"),
        (["evaluate", "--checkpoint", "pixels", "workers=0"], "workers=0"),
        (["evaluate", "--checkpoint", "pixels", "--data", "folder"], "--data folder:PATH"),
        (["evaluate", "--checkpoint", "pixels", "--data", "folder:empty", "data.size=a"], "data.size=a"),
        (["train", "recipe=foo"], "no recipe 'foo'"),
        (["evaluate", "--checkpoint", "pixels", "seeds=many"], "seeds=many: a whole number"),
        (["evaluate", "--checkpoint", "pixels", "sed=3"], "sed"),
        (["evaluate", "--checkpoint", "pixels", "results=notes.txt/r"], "notes.txt"),
        (["report", "nowhere"], "No results folder 'nowhere'"),
        (["report", "empty"], "not a results folder"),
        (["list", "method"], "Did you mean 'methods'?"),
        (["doctor", "--checkpoint", "nowhere"], "No checkpoint 'nowhere'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(capsys, arguments, message):
    Path("notes.txt").write_text("hello")
    Path("empty").mkdir()
    code, out, err = said(capsys, *arguments)
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith("shiftbench: ")
    assert message in last
    assert "Traceback" not in err + out
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["empty", "notes.txt"]


def test_failed_cells_end_with_code_two(capsys):
    Path("mine.py").write_text("def bad(images):\n    raise RuntimeError('no luck')\n")
    code, _, err = said(capsys, "evaluate", "--checkpoint", "mine:bad", "--limit", "40", "seeds=2", "data=digits")
    assert code == 2
    assert "no luck" in err
    assert next(Path("results").glob("digits-*/cells.csv")).is_file()


def test_ctrl_c_is_130(capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("shiftbench.evaluation.evaluate"), "make_plan", interrupted)
    code, _, err = said(capsys, "evaluate", "--checkpoint", "pixels", "data=digits")
    assert code == 130
    assert "the same command goes on" in err


@pytest.mark.skipif(sys.platform == "win32", reason="no /dev/full")
def test_a_full_disk_is_one_line(capsys, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", "cells.csv")

    monkeypatch.setattr("shiftbench.evaluation.partitions.np.savez_compressed", full)
    code, _, err = said(capsys, "evaluate", "--checkpoint", "pixels", "--limit", "40", "data=digits", "results=r")
    assert code == 2
    assert "No space left on device" in err
    assert not list(Path("r").rglob("*.npz"))


def test_module_entry_point():
    done = shell("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("shiftbench ")
    done = shell("evaluate", "--checkpoint", "nowhere.pt", "data=digits")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_corrupt_writes_the_official_layout_once(capsys):
    words = ["corrupt", "--corruption", "fog", "--corruption", "contrast", "-o", "digits-c"]
    assert said(capsys, *words)[0] == 0
    assert np.load("digits-c/fog.npy").shape == (5 * 360, 32, 32, 3)
    before = {path.name: path.stat().st_mtime_ns for path in Path("digits-c").iterdir()}
    assert sorted(before) == ["contrast.npy", "fog.npy", "labels.npy", "manifest.json"]
    assert said(capsys, *words)[0] == 0
    assert {path.name: path.stat().st_mtime_ns for path in Path("digits-c").iterdir()} == before


def test_corrupt_a_folder_of_images_at_their_own_size(capsys):
    Path("photos").mkdir()
    for i in range(6):
        Image.fromarray(np.full((50, 60, 3), 40 * i, np.uint8)).save(f"photos/{i}.png")
    words = ["corrupt", "--data", "folder:photos", "--preview", "-o", "sheet.png"]
    assert said(capsys, *words, "--size", "48", "--corruption", "fog")[0] == 0
    assert said(capsys, "corrupt", "--data", "folder:photos", "-o", "out")[0] == 2  # no labels
    assert said(capsys, "corrupt", "--size", "48", "-o", "out")[0] == 2  # digits have theirs


def test_corrupt_preview(capsys):
    assert said(capsys, "corrupt", "--preview", "-o", "sheet.png")[0] == 0
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 400


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--corruption", "fgo"], "Did you mean 'fog'"),
        (["--data", "digit"], "Did you mean 'digits'"),
        (["--layout", "cfar"], "Did you mean 'cifar'"),
        (["--table", "cifr"], "table"),
        (["--preview"], "'out' is no picture"),
    ],
)
def test_corrupt_bad_input(capsys, words, message):
    code, _, err = said(capsys, "corrupt", "-o", "out", *words)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not Path("out").exists()


def test_a_callable_in_the_current_folder_is_found(capsys):
    Path("mine_here.py").write_text("def features(images):\n    return images.flatten(1).float() / 255\n")
    words = ["--checkpoint", "mine_here:features", "--limit", "40", "seeds=2", "data=digits", "floors=[]"]
    code, out, err = said(capsys, "evaluate", *words)
    assert code == 0, err
    assert "mine_here:features" in out


def test_no_number_of_the_table_is_cut(capsys, monkeypatch):
    monkeypatch.setattr("shiftbench.runtime.console.stdout", Console(width=40, highlight=False))
    results = evaluate("pixels", floors=[], limit=60, seeds=3, shift="fog-5")
    print_whole(terminal_table(results))
    out = capsys.readouterr().out
    assert "…" not in out
    assert "agree." in out


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_library", "no module 'no_such_library'"),
        ("def f(:", "SyntaxError"),
        ("raise RuntimeError('at import')", "RuntimeError: at import"),
        ("def features(images):\n    raise ValueError('my bug')", "ValueError: my bug"),
        ("def features(images):\n    return None", "fails on 64 photographs"),
    ],
)
def test_a_callable_that_does_not_work_is_one_line(capsys, monkeypatch, source, message):
    name = f"mine{abs(hash(source))}"
    Path(f"{name}.py").write_text(source)
    code, _, err = said(capsys, "doctor", "--checkpoint", f"{name}:features")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
