"""The ranges of numbers that a user sets: each is stated once, and what lies outside is refused in one line.

In every function ``where`` stands before each name in the message, ``values`` are the options by name. None means that
an option is not set, and passes; of a tuple every number must be in the range. NaN is in no range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shiftbench.errors import InputError

METHOD = "trainer.method."

Value = float | tuple[float, ...] | None


def above_zero(where: str = METHOD, /, **values: Value) -> None:
    """Raise InputError for the first value that is not above 0."""
    _check(lambda number: number > 0, "above 0", where, values)


def at_least(least: int, where: str = METHOD, /, **values: Value) -> None:
    """Raise InputError for the first value below ``least``."""
    _check(lambda number: number >= least, f"at least {least}", where, values)


def within(low: float, high: float, where: str = METHOD, /, **values: Value) -> None:
    """Raise InputError for the first value outside ``low``..``high``, both included."""
    _check(lambda number: low <= number <= high, f"within {low:g}..{high:g}", where, values)


def share(where: str = METHOD, /, **values: Value) -> None:
    """Raise InputError for the first value that is no share: at least 0 and below 1."""
    _check(lambda number: 0 <= number < 1, "a share, at least 0 and below 1", where, values)


def rising(where: str = METHOD, /, **values: tuple[float, ...] | None) -> None:
    """Raise InputError for the first tuple whose numbers fall."""
    for name, value in values.items():
        require(value is None or list(value) == sorted(value), where + name, value, "rising")


def loss_weights(where: str = METHOD, /, **values: float) -> None:
    """Raise InputError where weights of loss terms define no loss: each is at least 0, and one is above 0."""
    at_least(0, where, **values)
    text = ", ".join(f"{name}={value}" for name, value in values.items())
    if not any(values.values()):
        raise InputError(f"{where}{text}: the weights must be at least 0, one of them above 0.")


def require(holds: bool, option: str, value: object, rule: str) -> None:
    """Raise InputError where an option breaks a rule of its own: ``option=value must be rule.``"""
    if not holds:
        raise InputError(f"{option}={value} must be {rule}.")


def _check(inside: Callable[[float], bool], rule: str, where: str, values: Mapping[str, Value]) -> None:
    for name, value in values.items():
        numbers = value if isinstance(value, tuple) else (value,)
        require(all(number is None or inside(number) for number in numbers), where + name, value, rule)
