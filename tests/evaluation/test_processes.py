"""Several processes, killed processes: the tables are those of one that nobody disturbed."""

import collections
import importlib.util
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from shiftbench.results.tables import Results

CHECKOUT = Path(__file__).resolve().parents[2]
TABLES = ("cells", "stability", "summary", "recall", "comparisons", "proxies", "replicates")

# An encoder that writes down what it was given.
COUNTING = """
import hashlib, os
def encode(images):
    with open(os.environ["COUNT"], "a") as file:
        file.write(hashlib.sha256(images.numpy().tobytes()).hexdigest() + "\\n")
    return images.float().mean(dim=(2, 3))
"""


def command(folder, *words):
    return [sys.executable, "-m", "shiftbench", "evaluate", "data=digits", "floors=[]", f"results={folder}", *words]


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "counting.py").write_text(COUNTING)
    path = os.pathsep.join([str(CHECKOUT), str(tmp_path)])
    return os.environ | {"PYTHONPATH": path, "COUNT": str(tmp_path / "count"), "SHIFTBENCH_CACHE": str(tmp_path / "c")}


def bytes_of(folder):
    return {name: (folder / f"{name}.parquet").read_bytes() for name in TABLES}


@pytest.mark.slow
def test_two_processes_share_a_folder(tmp_path, environment):
    words = [
        "--checkpoint",
        "counting:encode",
        "--shift",
        "fog",
        "--shift",
        "contrast",
        "seeds=2",
        "cache=null",
        "probes=[]",
    ]
    running = [subprocess.Popen(command(tmp_path / "both", *words, "workers=1"), env=environment) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    seen = collections.Counter((tmp_path / "count").read_text().split())
    # 360 test images in two chunks under ten conditions, each encoded by one of the two only; the pictures of the
    # report need the condition that moves most once more.
    assert sum(times == 1 for times in seen.values()) >= 2 * 9
    subprocess.run(command(tmp_path / "one", *words), env=environment, check=True)
    assert bytes_of(tmp_path / "both") == bytes_of(tmp_path / "one")


@pytest.mark.slow
def test_killed_at_any_moment_and_restarted_ends_the_same(tmp_path, environment):
    """SIGKILL, which nothing can catch, twenty times."""
    words = [
        "--checkpoint",
        "counting:encode",
        "--shift",
        "fog",
        "seeds=3",
        "workers=1",
        "stability=[initialization,projection]",
    ]
    moment = random.Random(0)
    begun = time.monotonic()
    subprocess.run(command(tmp_path / "undisturbed", *words), env=environment, check=True, capture_output=True)
    whole = time.monotonic() - begun
    environment["SHIFTBENCH_CACHE"] = str(tmp_path / "another")
    for _ in range(20):
        process = subprocess.Popen(command(tmp_path / "killed", *words), env=environment, stderr=subprocess.DEVNULL)
        time.sleep(moment.uniform(0.3, 1) * whole)
        process.kill()
        process.wait()
    subprocess.run(command(tmp_path / "killed", *words), env=environment, check=True, capture_output=True)
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "undisturbed")


@pytest.mark.slow
def test_torchrun_shares_the_images(tmp_path, environment):
    words = [
        "--checkpoint",
        "counting:encode",
        "--shift",
        "fog",
        "--shift",
        "prior",
        "seeds=2",
        "batch_size=100",
        "cache=null",
    ]
    run = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "shiftbench"]
    both = command(tmp_path / "both", *words)
    subprocess.run([both[0], *run, *both[3:]], env=environment, check=True, capture_output=True)
    seen = collections.Counter((tmp_path / "count").read_text().split())
    assert max(times for times in seen.values()) <= 3  # the two images that say how large features are, at most
    subprocess.run(command(tmp_path / "one", *words), env=environment, check=True, capture_output=True)
    assert bytes_of(tmp_path / "both") == bytes_of(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "ray", "submitit_local"])
def test_a_sweep_over_encoders_ends_in_one_folder(tmp_path, environment, launcher):
    plugin = {"ray": "hydra_plugins.hydra_ray_launcher", "submitit_local": "hydra_plugins.hydra_submitit_launcher"}
    if launcher in plugin and importlib.util.find_spec(plugin[launcher]) is None:
        pytest.skip(f"the launcher {launcher} is not installed")
    words = ["-m", "checkpoint=pixels,counting:encode,pca:8", "shift=fog", "seeds=2", f"hydra/launcher={launcher}"]
    done = subprocess.run(
        command(tmp_path / "r", *words), env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = Results.load(tmp_path / "r")
    assert set(results.cells["encoder"]) == {"pixels", "counting:encode", "pca:8"}
    assert not results.cells.duplicated(
        ["encoder", "split", "shift", "corruption", "severity", "clusterer", "seed", "protocol", "metric"]
    ).any()
    assert isinstance(results.summary, pd.DataFrame)
    assert len(results.run["encoders"]) == 3
