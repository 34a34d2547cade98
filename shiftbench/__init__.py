"""How robust are image clusterings under distribution shift?

Importing this package loads neither torch nor pandas; each public name below is fetched when it is first used.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "evaluate": "shiftbench.evaluation",
    "load_encoder": "shiftbench.encoders",
    "report": "shiftbench.reports",
    "train": "shiftbench.trainers",
    "Results": "shiftbench.results",
}
__all__ = ["Results", "__version__", "evaluate", "load_encoder", "report", "train"]

# In a checkout, trainers/, corruptions/, reports/ and configs/ stand beside this folder: find them as subpackages,
# as the installed package does through the mapping in pyproject.toml. In a wheel this branch is dead.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file() and (_checkout / "trainers").is_dir():
    __path__.append(str(_checkout))


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'shiftbench' has no attribute {name!r}")
