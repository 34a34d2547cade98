"""Several processes train as one does: the same weights, one folder, one voice."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from shiftbench.errors import InputError
from shiftbench.registry import METHODS
from shiftbench.runtime import processes
from shiftbench.trainers import fit
from shiftbench.trainers.distributed import SharedBatchNorm, join

# Two processes, forked after the imports, that do the same as torchrun's.
TWO = """
import os, sys, yaml
import torch, torch.distributed
from shiftbench.runtime import processes
from shiftbench.trainers import fit
from shiftbench.trainers.engine import Trainer

def process(rank, port, work):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port), TORCHELASTIC_RUN_ID="test")
    torch.set_num_threads(1)
    work(rank)

def together(work):
    child = os.fork()
    if not child:
        try:
            process(1, {port}, work)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    process(0, {port}, work)
    assert os.waitpid(child, 0)[1] == 0, "the second process failed"

"""


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def two(work: str) -> str:
    return TWO.replace("{port}", str(free_port())) + work


def last_row(run: Path) -> dict[str, float]:
    names, *values = (run / "metrics.csv").read_text(encoding="utf-8").splitlines()
    return dict(zip(names.split(","), map(float, values[-1].split(",")), strict=True))


@pytest.mark.parametrize(
    "methods", [["concurl", "idfd"], pytest.param(METHODS.names(), marks=pytest.mark.slow, id="all")]
)
def test_two_processes_train_as_one(tiny, tmp_path, run_python, methods):
    """With a last step of its own size, BatchNorm shared, an average of the weights: up to rounding."""
    shared = ("trainer.sync_bn=true", "trainer.batch=20", "trainer.epochs=2", "trainer.ema=0.9")
    configs = {name: tiny(f"method={name}", *shared) for name in methods}
    both = {name: {**config, "runs": f"{tmp_path}/two/{name}"} for name, config in configs.items()}
    (tmp_path / "configs.yaml").write_text(yaml.safe_dump(both), encoding="utf-8")
    result = run_python(
        two(f"""
configs = yaml.safe_load(open({str(tmp_path / "configs.yaml")!r}))
leave, processes.leave = processes.leave, lambda: None  # they stay together from run to run
def work(rank):
    for config in configs.values():
        fit(config)
    leave()
together(work)
""")
    )
    assert result.returncode == 0, result.stderr
    assert "Warning" not in result.stderr
    for name, config in configs.items():
        alone = fit(config)
        [run] = (tmp_path / "two" / name).iterdir()
        assert yaml.safe_load((run / "run.json").read_text(encoding="utf-8"))["starts"][0]["processes"] == 2
        assert result.stderr.count(str(run)) == 1  # only the first speaks
        for key, value in last_row(alone).items():
            assert last_row(run)[key] == pytest.approx(value, rel=2e-3, abs=1e-3), (name, key)
        shared_work, expected = (load_file(folder / "encoder.safetensors") for folder in (run, alone))
        for key, value in expected.items():
            torch.testing.assert_close(
                shared_work[key], value, atol=2e-3, rtol=2e-2, msg=lambda text, at=(name, key): f"{at} {text}"
            )


@pytest.fixture(scope="module")
def halves(tmp_path_factory, run_python) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
    """What two processes are given, and what each computes from its half of the rows."""
    folder, numbers = tmp_path_factory.mktemp("halves"), torch.Generator().manual_seed(0)
    given = {name: torch.randn(8, 3, 5, 5, generator=numbers) for name in ("images", "weights")}
    given = {**given, "images": given["images"] * 3 + 2, "matrix": torch.randn(75, 4, generator=numbers) / 20}
    torch.save(given, folder / "given.pt")
    result = run_python(
        two(f"""
from torch import nn
from shiftbench.trainers.distributed import average_gradients, gathered, share_batch_norm
given = torch.load({str(folder / "given.pt")!r})
def work(rank):
    torch.distributed.init_process_group("gloo")
    norm = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False))
    share_batch_norm(norm)
    assert all(type(layer).__name__ == "SharedBatchNorm" for layer in norm)
    rows = slice(4 * rank, 4 * rank + 4)
    images = given["images"][rows].requires_grad_()
    output = norm(images)
    (2 * (output * given["weights"][rows]).sum()).backward()  # the mean over two processes is the sum over the whole

    matrix = nn.Parameter(given["matrix"])
    features = gathered(given["images"][rows].flatten(1) @ matrix)
    loss = (features @ features.t()).softmax(dim=1).square().sum()
    loss.backward()
    average_gradients([*norm.parameters(), matrix])
    torch.save({{"output": output, "images": images.grad / 2, "weight": norm[0].weight.grad,
                "state": norm.state_dict(), "eval": norm.eval()(images), "loss": loss, "matrix": matrix.grad,
                "index": gathered(torch.arange(8)[rows])}}, f"{folder}/{{rank}}.pt")
    processes.leave()
together(work)
""")
    )
    assert result.returncode == 0, result.stderr
    return given, [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_shared_batch_norm_is_batch_norm_of_all_images(halves):
    """Output, gradients and statistics of two halves are those of torch's BatchNorm on the whole."""
    given, parts = halves
    norm = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False))
    images = given["images"].clone().requires_grad_()
    output = norm(images)
    (output * given["weights"]).sum().backward()
    torch.testing.assert_close(torch.cat([part["output"] for part in parts]), output, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat([part["images"] for part in parts]), images.grad, atol=1e-5, rtol=1e-4)
    for part in parts:
        torch.testing.assert_close(part["weight"], norm[0].weight.grad, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(part["state"], norm.state_dict(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat([part["eval"] for part in parts]), norm.eval()(images), atol=1e-5, rtol=1e-5)


def test_gathered_rows_are_the_whole_batch_in_value_and_gradient(halves):
    """Of a loss that compares all rows with each other."""
    given, parts = halves
    matrix = nn.Parameter(given["matrix"])
    features = given["images"].flatten(1) @ matrix
    loss = (features @ features.t()).softmax(dim=1).square().sum()
    loss.backward()
    for part in parts:
        torch.testing.assert_close(part["loss"], loss)
        torch.testing.assert_close(part["matrix"], matrix.grad, atol=1e-5, rtol=1e-4)
        assert torch.equal(part["index"], torch.arange(8))


def test_shared_batch_norm_takes_over_settings():
    norm = nn.BatchNorm1d(4, eps=0.1, momentum=0.3, affine=False)
    norm.running_mean.fill_(2)
    shared = SharedBatchNorm.of(norm)
    assert (shared.eps, shared.momentum, shared.affine) == (0.1, 0.3, False)
    assert shared.state_dict().keys() == norm.state_dict().keys()
    points = torch.randn(5, 4)
    assert torch.equal(shared.eval()(points), norm.eval()(points))


@pytest.fixture
def one_of_two(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *given, **options: None)
    assert processes.world() == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.batch=17"], r"batch=17 among 2 processes: all need equally many images.* Try trainer.batch=16\."),
        (["trainer.batch=2"], r"batch=2 among 2 processes: .* at least 2\. Try trainer.batch=4\."),
        (["trainer.batch=6", "trainer.accumulate=2"], r"at least 4\. Try trainer.batch=8\."),
    ],
)
def test_a_batch_that_cannot_be_shared_is_one_clear_line(tiny, one_of_two, overrides, message):
    with pytest.raises(InputError, match=message):
        fit(tiny(*overrides))


def test_a_gpu_for_each_process_or_none(one_of_two, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    for device in ("auto", "cuda"):
        with pytest.raises(InputError, match="2 processes need a GPU each, and here are 1"):
            join(device)


@pytest.mark.slow
def test_torchrun_trains_from_the_command_line(tmp_path):
    """One line of progress, one folder, an encoder."""
    overrides = ["trainer.epochs=2", "trainer.batch=256", f"runs={tmp_path}", "device=cpu"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", f"--master-port={free_port()}"]
    result = subprocess.run(
        [*command, "-m", "shiftbench", "train", "--method", "idfd", "--data", "digits", *overrides],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    [run] = tmp_path.iterdir()
    assert (run / "encoder.safetensors").is_file()
    assert result.stderr.count("Training idfd on digits") == 1
    assert result.stderr.count("Trained: ") == 1
