"""Where the modules of the package lie in a checkout."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
FOLDERS = {
    "shiftbench": CHECKOUT / "shiftbench",
    **{f"shiftbench.{name}": CHECKOUT / name for name in ("configs", "corruptions", "reports", "trainers")},
}


def modules() -> dict[str, Path]:
    """The file of every module of the package, by the module's name."""
    files = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            files[".".join(parts).removesuffix(".__init__")] = path
    return files


MODULES = modules()
