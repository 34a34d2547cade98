"""How robust are image clusterings under distribution shift?

Importing this package loads neither torch nor pandas; each public name below is fetched when it is first used.
"""

from importlib import import_module as _import_module
from typing import Any as _Any

__version__ = "0.1.0"

_PUBLIC = {
    "Results": "shiftbench.results",
    "corrupt": "shiftbench.corruptions",
    "evaluate": "shiftbench.evaluation",
    "load_dataset": "shiftbench.data",
    "load_encoder": "shiftbench.encoders",
    "report": "shiftbench.reports",
    "train": "shiftbench.trainers",
}
__all__ = ["Results", "__version__", "corrupt", "evaluate", "load_dataset", "load_encoder", "report", "train"]


def __getattr__(name: str) -> _Any:
    if name in _PUBLIC:
        return getattr(_import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'shiftbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)


def _find_the_checkouts_folders() -> None:
    """Find configs/, corruptions/, reports/ and trainers/ where they stand in a checkout: beside this folder.

    An installed package has them inside, by the mapping in pyproject.toml, and needs no help.
    """
    import sys
    from importlib.machinery import ModuleSpec, PathFinder
    from pathlib import Path

    checkout = Path(__file__).resolve().parent.parent
    folders = {f"shiftbench.{name}" for name in ("configs", "corruptions", "reports", "trainers")}

    class Checkout:
        @staticmethod
        def find_spec(name: str, path: _Any = None, target: _Any = None) -> ModuleSpec | None:
            return PathFinder.find_spec(name, [str(checkout)]) if name in folders else None

    if (checkout / "pyproject.toml").is_file() and (checkout / "trainers").is_dir():
        sys.meta_path.insert(0, Checkout)  # before another checkout that may be installed


_find_the_checkouts_folders()
