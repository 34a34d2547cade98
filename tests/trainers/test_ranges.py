"""The ranges of options: their edges, what passes unset, and the line that refuses."""

import math
import re

import pytest

from shiftbench.errors import InputError
from shiftbench.trainers.ranges import above_zero, at_least, loss_weights, require, rising, share, within


@pytest.mark.parametrize(
    ("check", "inside", "outside", "rule"),
    [
        (above_zero, [1e-9, 3], [0, -1], "above 0"),
        (lambda **values: at_least(2, **values), [2, 2.5], [1, 1.999], "at least 2"),
        (lambda **values: within(0, 0.5, **values), [0, 0.2, 0.5], [-0.01, 0.51], "within 0..0.5"),
        (share, [0, 0.999], [1, -0.001], "a share, at least 0 and below 1"),
    ],
)
def test_each_range_has_its_edges(check, inside, outside, rule):
    for number in [*inside, None]:
        check(option=number)
    check(option=tuple(inside))
    for number in [*outside, math.nan]:
        for value in (number, (inside[0], number)):
            with pytest.raises(InputError, match=f"^{re.escape(f'trainer.method.option={value} must be {rule}.')}$"):
                check(option=value)


def test_the_first_option_outside_is_named_with_what_stands_before_it():
    with pytest.raises(InputError, match=r"^trainer\.keep=0 must be at least 1\.$"):
        at_least(1, "trainer.", epochs=3, keep=0, batch=-1)


def test_weights_of_a_loss_are_not_negative_and_not_all_zero():
    loss_weights(alpha=0.0, beta=0.5)
    with pytest.raises(InputError, match=r"^trainer\.method\.beta=-1\.0 must be at least 0\.$"):
        loss_weights(alpha=1.0, beta=-1.0)
    with pytest.raises(InputError, match=r"^trainer\.method\.alpha=0\.0, beta=0\.0: .* one of them above 0\.$"):
        loss_weights(alpha=0.0, beta=0.0)


def test_what_rises_may_stand_still_but_not_fall():
    rising(crop=(0.2, 1.0), zoom=(1.0, 1.0), size=None)
    with pytest.raises(InputError, match=r"crop=\(0\.5, 0\.2\) must be rising"):
        rising(crop=(0.5, 0.2))


def test_a_rule_of_its_own_is_told_in_the_same_way():
    require(True, "trainer.select", "last", "last")
    with pytest.raises(InputError, match=r"^trainer\.select=oracle must be last\.$"):
        require(False, "trainer.select", "oracle", "last")
