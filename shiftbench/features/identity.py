"""What code is called in keys, so that numbers made by other code are never taken for those of this one."""

from __future__ import annotations

import functools
from typing import Any

from shiftbench.registry import Registry
from shiftbench.runtime.code import code_digest


def code_name(thing: Any, unknowable: str) -> str:
    """The name of code in a key: empty for this package's own, which the version numbers in keys stand for.

    Args:
        thing: a function, class or ``functools.partial``.
        unknowable: the name of what cannot be known. It should be another in each call of an evaluation.

    Examples:
        >>> code_name(code_name, "?")
        ''
        >>> code_name(lambda x: x, "?")
        '?'
    """
    inner = thing
    while isinstance(inner, functools.partial):
        inner = inner.func
    if str(getattr(inner, "__module__", "")).partition(".")[0] == "shiftbench":
        return ""
    return code_digest(thing) or unknowable


def guests(registry: Registry[Any], unknowable: str) -> dict[str, str]:
    """What others than this package have registered, with the names of its code.

    Examples:
        >>> from shiftbench.registry import METRICS
        >>> guests(METRICS, "?")
        {}
    """
    names = [name for name, entry in registry.items() if not entry.target.startswith("shiftbench.")]
    return {name: code_name(registry.load(name), unknowable) for name in names}
