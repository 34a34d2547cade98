"""Real reports, made with the commands that a user types.

    python -m benchmarks.gallery [-o gallery] [--data DIR] [--only digits methods cifar10 cifar10_methods]
                                 [--limit N] [--epochs N]

``digits``           ConCURL trained on the embedded digits, beside pixels and an untrained network, 75 corruptions.
``methods``          every method, trained on the digits with one budget (``--preset common``), in one comparison.
``cifar10``          the checkpoints below DIR/checkpoints on CIFAR-10 (in DIR), corrupted and as JPEG, and the floors.
``cifar10_methods``  the eight methods trained on CIFAR-10 (:mod:`benchmarks.methods`).

The last two are left out without ``--data`` or SHIFTBENCH_DATA. Each page is written to OUT/NAME/report.html, and where
there is a Chromium, OUT/NAME-WIDTH.png shows it on a desk (1280 pixels) and on a phone (400).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import sync_playwright

from shiftbench.registry import METHODS

DESK, PHONE = 1280, 400  # pixels
CHECKPOINTS = {"akamaster/*.th": "?norm=imagenet", "phlippe/*.ckpt": "?norm=cifar10"}  # below DIR/checkpoints


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path("gallery"))
    parser.add_argument("--data", type=Path, default=os.environ.get("SHIFTBENCH_DATA"), help="where CIFAR-10 is")
    parser.add_argument("--only", nargs="+", choices=list(PAGES), default=list(PAGES))
    parser.add_argument("--limit", type=int, help="images of each split")
    parser.add_argument("--epochs", type=int, help="of each training, instead of the method's own")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.only:
        if given.data is None and name in NEED_DATA:
            print(f"{name} is left out: name the folder of CIFAR-10 with --data.", file=sys.stderr)
        else:
            PAGES[name](given, given.out / name)


def digits(given: argparse.Namespace, out: Path) -> None:
    """The demo."""
    _evaluate(given, out, [_trained(given, "concurl", "paper")], ["corruption"])


def methods(given: argparse.Namespace, out: Path) -> None:
    """All methods with one budget."""
    _evaluate(given, out, [_trained(given, name, "common") for name in METHODS], ["corruption"])


def cifar10(given: argparse.Namespace, out: Path) -> None:
    """Public checkpoints on CIFAR-10."""
    data = Path(given.data)
    checkpoints = [
        f"{path}{options}"
        for pattern, options in CHECKPOINTS.items()
        for path in sorted((data / "checkpoints").glob(pattern))
    ]
    _evaluate(given, out, checkpoints, ["corruption", "cifar10_jpeg"], "--data", "cifar10", f"data.root={data}")


def cifar10_methods(given: argparse.Namespace, out: Path) -> None:
    """The eight methods on CIFAR-10."""
    more = [f"--{name}={value}" for name in ("limit", "epochs") if (value := getattr(given, name)) is not None]
    _python("benchmarks.methods", f"--data={given.data}", f"--out={out}", *more)
    _photograph(out)


PAGES = {"digits": digits, "methods": methods, "cifar10": cifar10, "cifar10_methods": cifar10_methods}
NEED_DATA = ("cifar10", "cifar10_methods")


def _trained(given: argparse.Namespace, method: str, preset: str) -> str:
    """A run folder, trained where it is not there yet."""
    runs = given.out / "runs" / f"{preset}-{method}"
    if not list(runs.glob("*/encoder.safetensors")):
        epochs = [] if given.epochs is None else [f"trainer.epochs={given.epochs}"]
        _python("shiftbench", "train", "--method", method, "--preset", preset, f"runs={runs}", *epochs)
    return str(max(runs.glob("*/encoder.safetensors"), key=lambda path: path.stat().st_mtime).parent)


def _evaluate(
    given: argparse.Namespace, out: Path, checkpoints: Sequence[str], shifts: Sequence[str], *more: str
) -> None:
    limit = [] if given.limit is None else ["--limit", str(given.limit)]
    named = [part for checkpoint in checkpoints for part in ("--checkpoint", checkpoint)]
    named += [part for shift in shifts for part in ("--shift", shift)]
    _python("shiftbench", "evaluate", *named, *limit, *more, f"results={out}")
    _photograph(out)


def _python(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


def _photograph(folder: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width in (DESK, PHONE):
            page = browser.new_page(viewport={"width": width, "height": 1600})
            page.goto((folder / "report.html").resolve().as_uri())
            page.screenshot(path=folder.parent / f"{folder.name}-{width}.png")
        browser.close()


if __name__ == "__main__":
    main()
