"""Errors that a user can fix: one line that says what is wrong, where, and what to do. The command exits with 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave cannot be used. The message is one line without a traceback."""


class InputTypeError(InputError, TypeError):
    """An argument has the wrong type or dtype."""


def unknown(kind: str, name: object, allowed: Iterable[str]) -> InputError:
    """The error for a name that is not registered; it suggests the nearest known name.

    Args:
        kind: what was asked for, in the singular ("corruption").
        name: what was given.
        allowed: the names that exist.
    """
    names = list(allowed)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return InputError(f"Unknown {kind} {str(name)!r}.{hint} Available: {', '.join(names)}.")
