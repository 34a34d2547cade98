"""Signs of collapse against their definitions, and when they are told; the advice where memory ends."""

import math

import numpy as np
import pytest
import torch

from shiftbench.configs import compose
from shiftbench.errors import InputError
from shiftbench.trainers.health import Terms, collapse, enough_memory, signs
from shiftbench.trainers.options import Options, bind


def test_rank_and_spread_are_those_of_the_definition():
    features = torch.randn(60, 12, generator=torch.Generator().manual_seed(0)) + 2
    centred = (features - features.mean(0)).double().numpy()
    singular = np.sqrt(np.linalg.eigvalsh(centred.T @ centred).clip(0))
    shares = singular / singular.sum()
    found = signs(features)
    assert found["probe_rank"] == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-9)
    assert found["probe_spread"] == pytest.approx((centred**2).sum() / features.double().square().sum().item())
    assert set(found) == {"probe_rank", "probe_spread"}


def test_rank_counts_directions_and_spread_knows_a_point():
    even = torch.eye(4).repeat(5, 1)
    assert signs(torch.cat([even, -even]))["probe_rank"] == pytest.approx(4)
    line = torch.linspace(-1, 1, 30)[:, None] * torch.tensor([[1.0, 2.0, 3.0]])
    assert signs(line)["probe_rank"] == pytest.approx(1)
    assert signs(line)["probe_spread"] == pytest.approx(1)
    point = signs(torch.ones(30, 3))
    assert point["probe_spread"] == 0
    assert math.isfinite(point["probe_rank"])


def test_the_largest_cluster_is_counted():
    scores = torch.eye(4)[[0, 0, 0, 1, 3]]
    assert signs(torch.randn(5, 2), scores)["probe_largest_cluster"] == pytest.approx(0.6)


GOOD = {"epoch": 1, "probe_spread": 0.5, "probe_rank": 8.0, "probe_largest_cluster": 0.3}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"probe_spread": 1e-5}, "all images have nearly the same features"),
        ({"probe_rank": 1.1}, "along one direction only (effective rank 1.10)"),
        ({"probe_largest_cluster": 0.98}, "one cluster holds 98% of the images"),
    ],
)
def test_a_collapse_is_one_that_lasts_three_epochs(bad, message):
    rows = [GOOD, {**GOOD, **bad}]
    assert collapse([*rows, rows[1]], 10) == ""
    assert message in collapse([*rows, rows[1], rows[1]], 10)
    assert collapse([rows[1], rows[1], GOOD], 10) == ""


def test_two_clusters_may_lie_on_a_line_and_rows_without_signs_say_nothing():
    assert collapse([{**GOOD, "probe_rank": 1.1}] * 3, 2) == ""
    assert collapse([{"epoch": 1, "loss": 0.5}] * 3, 10) == ""


def test_terms_are_means_over_the_images():
    terms = Terms("epoch 1", "")
    for value, weight in ((1.0, 10), (4.0, 5)):
        terms.add({"a": torch.tensor(value), "b": torch.tensor(-value)}, weight)
    assert terms.collect() == "a 4.000 b -4.000"
    assert terms.means() == {"a": pytest.approx(2.0), "b": pytest.approx(-2.0)}


def options(**changed) -> Options:
    given = compose("train", ["data=cifar10"])["trainer"]
    return Options(**bind(Options, {**given, **changed}, "trainer"))


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:120] . DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "python"],
)
def test_the_end_of_memory_says_which_batch_to_try(error):
    message = (
        r"cuda:0 has not enough memory for trainer.batch=512 with trainer.backbone=resnet18_cifar\. "
        r"Try trainer.batch=256, or the same batch in parts: trainer.accumulate=4\."
    )
    with (
        pytest.raises(InputError, match=message),
        enough_memory(options(batch=512, accumulate=2), torch.device("cuda:0")),
    ):
        raise error


def test_the_end_of_memory_with_two_images_asks_for_a_smaller_network():
    line = r"Try a smaller trainer.backbone\.$"
    with pytest.raises(InputError, match=line), enough_memory(options(batch=3), torch.device("cpu")):
        raise MemoryError


def test_other_errors_are_not_touched():
    with pytest.raises(RuntimeError, match="shapes"), enough_memory(options(), torch.device("cpu")):
        raise RuntimeError("shapes do not fit")
