"""A run that was stopped, killed or damaged: it goes on exactly, or says why it cannot."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from training_runs import Killed, kept, rows, stop_after, stopped_run

from shiftbench.errors import InputError
from shiftbench.registry import METHODS
from shiftbench.trainers import engine, fit, run_files


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


@pytest.mark.parametrize(
    "overrides", [["trainer.ema=0.9"], ["trainer.precision=float16"], ["trainer.accumulate=2", "trainer.warmup=0.4"]]
)
def test_a_run_with_more_state_resumes_to_the_same_bytes(tiny, monkeypatch, overrides):
    config = tiny(*overrides)
    whole = kept(fit(config))
    stopped = stopped_run(config, monkeypatch, 2)
    fit({**config, "resume": str(stopped)})
    assert kept(stopped) == whole


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
        patch.setattr(engine if moment == "save_encoder" else run_files, moment, kill)
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


def test_between_two_checkpoints_a_stop_goes_back_to_the_last(tiny, monkeypatch):
    config = tiny("trainer.checkpoint_every=2")
    whole = kept(fit(config))
    run = stopped_run(config, monkeypatch, 1)
    assert not (run / "checkpoint.pt").exists()
    fit({**config, "resume": str(run)})
    assert kept(run) == whole


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


def test_ctrl_c_keeps_the_last_epoch_and_says_how_to_go_on(tiny, monkeypatch, capsys):
    config = tiny()
    stop_after(monkeypatch, 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fit(config)
    [run] = Path(config["runs"]).iterdir()
    assert f"Stopped with 2 of 3 epochs saved. Go on with: shiftbench train resume={run}" in capsys.readouterr().err
    assert len(run_files.read_checkpoint(run)["history"]) == len(rows(run)) == 2


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


@pytest.mark.parametrize(("keep", "every", "expected"), [(1, 1, []), (2, 1, [4, 5]), (3, 2, [2, 4, 5])])
def test_the_last_checkpoints_are_kept(tiny, keep, every, expected):
    run = fit(tiny("trainer.epochs=5", f"trainer.keep={keep}", f"trainer.checkpoint_every={every}"))
    found = sorted(run.glob("checkpoint-*.pt"))
    assert [path.name for path in found] == [f"checkpoint-{number}.pt" for number in expected]
    for path, number in zip(found, expected, strict=True):
        assert len(torch.load(path, weights_only=True)["history"]) == number
    assert len(run_files.read_checkpoint(run)["history"]) == len(rows(run)) == 5
