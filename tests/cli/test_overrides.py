"""What a user types arrives as typed, whatever characters it holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftbench.cli.overrides import quoted
from shiftbench.configs import compose

AWKWARD = [
    "${oc.env:HOME}",
    r"a\${x}",
    r"p\\${q}",
    "it's",
    "\\",
    "a\\",
    "x${y",
    "a,b",
    "k=v",
    " ",
    "[a]",
    "{b}",
    "ü",
    '"',
    "$",
    "~",
]


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_names(text):
    assert compose("evaluate", [f"checkpoint=[{quoted(text)}]"])["checkpoint"] == [text]


@given(st.text(st.sampled_from("ab${}\\'\"[],=: "), min_size=1, max_size=12))
def test_any_name(text):
    assert compose("evaluate", [f"checkpoint=[{quoted(text)}]"])["checkpoint"] == [text]
