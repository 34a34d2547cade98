"""Code by its name, ``"package.module:attribute"``: ours, a plugin's, or what the user typed."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from threading import RLock
from typing import Any

from shiftbench.errors import InputError

_importing_here = RLock()


def import_target(target: str) -> Any:
    """Import ``"package.module:attribute"``.

    Raises:
        InputError: the module or the attribute does not exist.

    Examples:
        >>> import_target("math:sqrt")(9.0)
        3.0
    """
    module, _, attribute = target.partition(":")
    try:
        imported = import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"Cannot import {target!r}: there is no module {error.name!r}.") from error
    except Exception as error:  # a stranger's module may raise anything
        raise InputError(f"Cannot import {target!r}: {type(error).__name__}: {error}") from error
    try:
        return getattr(imported, attribute)
    except AttributeError as error:
        raise InputError(f"Cannot import {target!r}: module {module!r} has no attribute {attribute!r}.") from error


def import_typed(target: str) -> Any:
    """:func:`import_target` of what a user typed, which may also stand in the current folder.

    The folder is searched last, while this import lasts and at no other time: what happens to lie there, a file called
    ``psutil.py`` say, is not imported by anybody else. What the module needs from there it imports at its top.

    Raises:
        InputError: the module or the attribute does not exist.

    Examples:
        >>> import_typed("statistics:median")([3, 1, 2])
        2
    """
    here = str(Path.cwd())
    with _importing_here:
        if here in sys.path:
            return import_target(target)
        sys.path.append(here)
        try:
            return import_target(target)
        finally:
            sys.path.remove(here)
