"""What a python function or object computes with: a digest of its code and state, where these can be known.

Two objects of one digest give equal results for equal arguments. That can be known of a function that a module defines,
of what it calls, and of the plain values that it refers to. It cannot be known of lambdas, closures and callable objects, nor of
code that reads files, clocks or random numbers: they have no digest, and what they made is never taken from an earlier
call.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path, PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

# Names by which code reads what is in no argument and no variable: files, the environment, clocks, chance.
OUTSIDE = frozenset({
    "open", "load", "loadtxt", "genfromtxt", "fromfile", "memmap", "open_memmap", "read", "readline", "readlines",
    "read_text", "read_bytes", "read_csv", "read_parquet", "read_json", "imread", "load_file", "safe_open", "urlopen",
    "environ", "getenv", "argv", "time", "perf_counter", "monotonic", "now", "today", "rand", "randn", "randint",
    "rand_like", "randn_like", "randperm", "default_rng", "shuffle", "urandom", "eval", "exec", "compile", "__import__",
    "import_module", "globals", "locals", "input", "getattr", "setattr", "vars",
})  # fmt: skip
_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), range, PurePath)
_INSTALLED = tuple({str(Path(path).resolve()) for path in sysconfig.get_paths().values() if path})


class _UnknowableError(Exception):
    """Something's content cannot be known."""


def code_digest(thing: Any) -> str | None:
    """The hexadecimal sha256 of all that a function, class or torch module computes with; None where it cannot be known.

    Args:
        thing: what is called: ``def`` functions of a module, classes, ``functools.partial`` of these with plain
            arguments, torch modules without hooks. Parts of an installed package count by the package's version.

    Examples:
        >>> import math
        >>> code_digest(math.sqrt) == code_digest(math.sqrt) != code_digest(math.exp)
        True
        >>> code_digest(lambda x: x) is None
        True
    """
    digest = _Digest()
    try:
        digest.visit(thing)
    except (_UnknowableError, RecursionError):
        return None
    return digest.hexdigest()


class _Digest:
    """A running sha256 over whatever is visited, each object once."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._seen: dict[int, Any] = {}  # objects are held, so that no other one gets their id

    def hexdigest(self) -> str:
        return self._sha.hexdigest()

    def add(self, *parts: object) -> None:
        for part in parts:
            data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
            self._sha.update(len(data).to_bytes(8, "little") + data)

    def visit(self, thing: Any) -> None:
        if isinstance(thing, _PLAIN):
            self.add(type(thing).__name__, repr(thing))
            return
        if id(thing) in self._seen:
            self.add("again", list(self._seen).index(id(thing)))
            return
        self._seen[id(thing)] = thing
        self.add(type(thing).__qualname__)
        if isinstance(thing, tuple | list):
            self._visit_all(thing)
        elif isinstance(thing, set | frozenset):
            self._visit_all(sorted(thing, key=repr))
        elif isinstance(thing, Mapping):
            self._visit_all(item for pair in thing.items() for item in pair)
        elif isinstance(thing, functools.partial):
            self._visit_all((thing.func, thing.args, thing.keywords))
        elif isinstance(thing, ModuleType):
            self._visit_module(thing)
        elif isinstance(thing, FunctionType):
            self._visit_function(thing)
        elif isinstance(thing, BuiltinFunctionType) and not _is_bound(thing):
            self.add(thing.__module__, thing.__qualname__)
        elif isinstance(thing, MethodType):
            self._visit_all((thing.__func__, thing.__self__))
        elif isinstance(thing, type):
            self._visit_class(thing)
        elif _is_public(thing):
            self.add(thing.__module__, thing.__name__, _version(thing.__module__))
        else:
            self._visit_object(thing)

    def _visit_all(self, things: Iterable[Any]) -> None:
        for thing in things:
            self.visit(thing)

    def _visit_module(self, module: ModuleType) -> None:
        """An installed one; of others the parts that are used are visited where they are used."""
        self.add(module.__name__)
        if _is_installed(module):
            self.add(_version(module.__name__))

    def _visit_function(self, function: FunctionType) -> None:
        self.add(function.__module__, function.__qualname__)
        module = sys.modules.get(function.__module__ or "")
        if module is not None and _is_installed(module):
            self.add(_version(module.__name__))
            return
        if function.__name__ == "<lambda>" or set(function.__code__.co_freevars) - {"__class__"}:
            raise _UnknowableError
        self._visit_code(function.__code__, function.__globals__)
        self._visit_all((function.__defaults__, function.__kwdefaults__))

    def _visit_code(self, code: CodeType, known: Mapping[str, Any]) -> None:
        if OUTSIDE.intersection(code.co_names):
            raise _UnknowableError
        self.add(code.co_code, code.co_varnames, code.co_freevars, code.co_names)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._visit_code(constant, known)
            else:
                self.visit(constant)
        for name in _global_names(code):
            if name not in known:
                continue  # a builtin
            self.visit(known[name])
            if isinstance(known[name], ModuleType) and not _is_installed(known[name]):
                used = [part for part in code.co_names if hasattr(known[name], part)]
                self._visit_all(getattr(known[name], part) for part in used)

    def _visit_class(self, kind: type) -> None:
        for parent in kind.__mro__:
            self.add(parent.__module__, parent.__qualname__)
            module = sys.modules.get(parent.__module__)
            if module is None or _is_installed(module):
                self.add(_version(parent.__module__))
                continue
            for name, member in sorted(vars(parent).items()):
                if name in ("__dict__", "__weakref__", "__module__", "__doc__", "__annotations__"):
                    continue
                self.add(name)
                self.visit(getattr(member, "__func__", getattr(member, "fget", member)))

    def _visit_object(self, thing: Any) -> None:
        """Arrays, tensors and torch modules; nothing else is known to be all that it looks like."""
        numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
        if numpy is not None and isinstance(thing, numpy.ndarray | numpy.generic):
            array = numpy.asarray(thing)
            if array.dtype.hasobject:
                raise _UnknowableError
            self.add(array.dtype.str, array.shape, array.tobytes())
        elif numpy is not None and isinstance(thing, numpy.dtype):
            self.add(thing.str)
        elif torch is not None and isinstance(thing, torch.Tensor):
            values = thing.detach().cpu().contiguous().reshape(-1)
            self.add(
                thing.dtype, tuple(thing.shape), values.view(torch.uint8).numpy().tobytes() if len(values) else b""
            )
        elif torch is not None and isinstance(thing, torch.dtype | torch.device):
            self.add(repr(thing))
        elif torch is not None and isinstance(thing, torch.nn.Module):
            self._visit_torch_module(thing)
        else:
            raise _UnknowableError

    def _visit_torch_module(self, network: Any) -> None:
        self._visit_class(type(network))
        for name, value in sorted(vars(network).items()):
            if name.endswith("_hooks") and value:
                raise _UnknowableError
            if name.startswith("_") and name not in ("_parameters", "_buffers", "_modules"):
                continue
            self.add(name)
            self.visit(value)


def _global_names(code: CodeType) -> list[str]:
    """The names that code looks up outside of itself, sorted."""
    return sorted({step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")})


def _is_bound(function: BuiltinFunctionType) -> bool:
    owner = getattr(function, "__self__", None)
    return owner is not None and not isinstance(owner, ModuleType)


def _is_public(thing: Any) -> bool:
    """Whether it is what an installed module holds under its name, of whatever type: numpy's functions, say."""
    module, name = sys.modules.get(str(getattr(thing, "__module__", ""))), getattr(thing, "__name__", None)
    return module is not None and _is_installed(module) and name is not None and getattr(module, name, None) is thing


def _is_installed(module: ModuleType) -> bool:
    """Whether it belongs to python or to an installed package, which its version tells all about."""
    if module.__name__ == "__main__":  # what a user types there, whichever program has been started
        return False
    if module.__name__.partition(".")[0] in sys.stdlib_module_names:
        return True
    file = getattr(module, "__file__", None) or inspect.getattr_static(module, "__file__", None)
    if file is None:
        return bool(getattr(module, "__path__", None)) or getattr(module.__spec__, "origin", None) in (
            "built-in",
            "frozen",
        )
    return str(Path(file).resolve()).startswith(_INSTALLED) or module.__name__.partition(".")[0] == "shiftbench"


@functools.cache
def _version(module: str) -> str:
    top = module.partition(".")[0]
    loaded = getattr(sys.modules.get(top), "__version__", None)
    if loaded is not None:
        return str(loaded)
    try:
        return metadata.version(top)
    except metadata.PackageNotFoundError:
        return sys.version if top in sys.stdlib_module_names else ""
