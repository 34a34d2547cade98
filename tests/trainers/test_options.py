"""Schedules against the published epochs, and every way to get an option wrong."""

import re
from typing import Literal

import pytest

from shiftbench.configs import compose
from shiftbench.errors import InputError
from shiftbench.trainers.options import Options, accepted, bind

GIVEN = compose("train", ["data=cifar10"])["trainer"]


def options(**changed) -> Options:
    return Options(**bind(Options, {**GIVEN, **changed}, "trainer"))


def rates(**changed) -> list[float]:
    chosen = options(**changed)
    return [chosen.learning_rate(epoch) for epoch in range(chosen.epochs)]


def test_multistep_drops_at_the_published_epochs():
    published = rates(epochs=2000, lr=0.015)
    drops = [epoch for epoch in range(1, 2000) if published[epoch] < published[epoch - 1]]
    assert drops == [600, 950, 1300, 1650]
    assert published[0] == 0.015
    assert published[-1] == pytest.approx(0.015e-4)


def test_multistep_scales_with_the_epochs():
    short = rates(epochs=40)
    assert [epoch for epoch in range(1, 40) if short[epoch] < short[epoch - 1]] == [12, 19, 26, 33]


def test_warmup_scales_with_the_epochs():
    for epochs, warm in ((1000, 50), (100, 5), (10, 0)):
        rising = rates(schedule="constant", warmup=0.05, epochs=epochs, lr=1.0)
        assert sum(rate < 1 for rate in rising) == warm


def test_cosine_falls_from_the_rate_to_nearly_nothing():
    cosine = rates(schedule="cosine", epochs=100, lr=0.2)
    assert cosine[0] == 0.2
    assert cosine[50] == pytest.approx(0.1)
    assert 0 < cosine[-1] < 1e-4
    assert cosine == sorted(cosine, reverse=True)
    floored = rates(schedule="cosine", epochs=100, lr=0.2, final_lr=0.01)
    assert floored[0] == 0.2
    assert floored[50] == pytest.approx(0.101)
    assert floored[-1] == pytest.approx(0.002, rel=0.1)


def test_warmup_rises_in_equal_steps_and_constant_stays():
    assert rates(schedule="constant", warmup=0.65, epochs=6, lr=1.0) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "trainer.epochs=0 must be at least 1."),
        ({"batch": 1}, "trainer.batch=1 must be at least 2"),
        ({"k": 1}, "trainer.k=1 must be at least 2."),
        ({"threads": 0}, "trainer.threads=0 must be at least 1."),
        ({"lr": 0}, "trainer.lr=0.0 must be above 0."),
        ({"momentum": 1.0}, "trainer.momentum=1.0 must be a share, at least 0 and below 1."),
        ({"weight_decay": -1.0}, "trainer.weight_decay=-1.0 must be at least 0."),
        ({"warmup": 10}, "trainer.warmup=10.0 must be a share, at least 0 and below 1."),
        ({"final_lr": 2}, "trainer.final_lr=2.0 must be within 0..1."),
        ({"ema": 1.0}, "trainer.ema=1.0 must be a share, at least 0 and below 1."),
        ({"accumulate": 0}, "trainer.accumulate=0 must be at least 1"),
        (
            {"accumulate": 65},
            "trainer.accumulate=65 must be at least 1, and leave two of batch=128 images to each part.",
        ),
        ({"workers": 0}, "trainer.workers=0 must be at least 1."),
        ({"keep": 0}, "trainer.keep=0 must be at least 1."),
        ({"checkpoint_every": 0}, "trainer.checkpoint_every=0 must be at least 1."),
        ({"monitor_every": 0}, "trainer.monitor_every=0 must be at least 1."),
        ({"select": "oracle"}, "trainer.select=oracle must be last, or come with trainer.monitor=true."),
        ({"collapse": "off"}, "Unknown trainer.collapse 'off'."),
        ({"milestones": [0.5, 1.5]}, "trainer.milestones=(0.5, 1.5) must be a share"),
        ({"milestones": [0.0, 0.5]}, "trainer.milestones=(0.0, 0.5) must be above 0."),
        ({"decay": 0.0}, "trainer.decay=0.0 must be above 0."),
        ({"decay": 1.5}, "trainer.decay=1.5 must be within 0..1."),
        ({"std": [0.2, 0.0, 0.2]}, "trainer.std=(0.2, 0.0, 0.2) must be above 0."),
        ({"schedule": "cosin"}, "Unknown trainer.schedule 'cosin'. Did you mean 'cosine'?"),
        ({"epochs": "many"}, "trainer.epochs='many' should be int."),
        ({"epochs": 2.5}, "trainer.epochs=2.5 should be int."),
        ({"epochs": True}, "trainer.epochs=True should be int."),
        ({"lr": "fast"}, "trainer.lr='fast' should be float."),
        ({"mean": [0.5, 0.5]}, "trainer.mean=[0.5, 0.5] should be tuple[float, float, float]."),
        ({"drop_last": "yes"}, "trainer.drop_last='yes' should be bool."),
        ({"epoch": 3}, "Unknown option of trainer 'epoch'. Did you mean 'epochs'?"),
    ],
)
def test_a_wrong_option_is_one_clear_line(changed, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        options(**changed)
    assert "\n" not in str(caught.value)


def test_bind_converts_and_reserves():
    def build(*, size: int, share: float = 0.5, pair: tuple[int, int] = (1, 2), kind: Literal["a", "b"] = "a"): ...

    assert bind(build, {"size": 3, "share": 1, "pair": [4, 5]}, "x") == {"size": 3, "share": 1.0, "pair": (4, 5)}
    with pytest.raises(InputError, match=r"x\.size is missing"):
        bind(build, {}, "x")
    with pytest.raises(InputError, match="Unknown option of x 'share'"):
        bind(build, {"size": 3, "share": 0.1}, "x", reserved=["share"])


def test_a_constructor_that_passes_the_rest_on_takes_the_options_of_the_class_above():
    class Above:
        def __init__(self, *, size: int = 3, kept: float = 0.5) -> None: ...

    class Open(Above):
        def __init__(self, *, size: int = 7, own: int = 1, untyped=None, **above) -> None: ...

    class Closed(Open):
        def __init__(self, *, size: int = 9) -> None: ...

    assert {name: parameter.default for name, parameter in accepted(Open).items()} == {
        "size": 7,
        "own": 1,
        "untyped": None,
        "kept": 0.5,
    }
    assert list(accepted(Closed)) == ["size"]
    assert bind(Open, {"kept": 1, "own": 2, "untyped": "anything"}, "x") == {
        "kept": 1.0,
        "own": 2,
        "untyped": "anything",
    }
    with pytest.raises(InputError, match="Unknown option of x 'own'"):
        bind(Closed, {"own": 1}, "x")
