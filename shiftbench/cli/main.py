"""The ``shiftbench`` command. Flags are short for hydra overrides; each sub-command calls one public function."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shiftbench import __version__, registry
from shiftbench.cli.overrides import HYDRA_FLAGS, data_of_newest_run, data_overrides, named_override, quoted, run_hydra
from shiftbench.errors import InputError, unknown

KINDS: dict[str, Mapping[str, registry.Entry]] = {
    "methods": registry.METHODS,
    "datasets": registry.DATASETS,
    "shifts": registry.SHIFTS,
    "corruptions": registry.CORRUPTIONS,
    "clusterers": registry.CLUSTERERS,
    "metrics": registry.METRICS,
    "backbones": registry.BACKBONES,
    "encoders": registry.ENCODERS,
}
DONE, FIXABLE, INTERRUPTED = 0, 2, 130  # python itself ends with 1 on a bug of ours


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code: 0 done, 1 our bug, 2 the user can fix it, 130 interrupted."""
    parser = _parser()
    try:
        given, rest = parser.parse_known_args(arguments)
        given.overrides = [*getattr(given, "overrides", []), *rest]
        given.run(given)
    except InputError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail(
            "interrupted; the same command goes on where it was (training: shiftbench train resume=RUN)", INTERRUPTED
        )
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        return _fail(f"cannot read or write {error.filename or 'a file'}: {error.strerror or error}")
    return DONE


def _fail(message: str, code: int = FIXABLE) -> int:
    print(f"shiftbench: {' '.join(message.split())}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shiftbench",
        description="How robust are image clusterings under distribution shift?",
        epilog="shiftbench train && shiftbench evaluate --shift corruption",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"shiftbench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_train, _add_evaluate, _add_report, _add_corrupt, _add_list, _add_doctor, _add_cache, _add_convert):
        add(commands)
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], summary: str, hydra: bool = False
) -> argparse.ArgumentParser:
    overrides = "\n\nkey=value behind the flags overrides the configuration (see --cfg job); -m runs a sweep, a=1,2."
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + "." + overrides * hydra,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.set_defaults(run=run, hydra=hydra)
    if hydra:
        for flag in HYDRA_FLAGS:
            command.add_argument(flag, dest=f"hydra_{flag.strip('-')}", help=argparse.SUPPRESS)
        command.add_argument("-m", "--multirun", action="store_true", help="sweep over comma-separated values")
        command.add_argument("--resolve", action="store_true", help=argparse.SUPPRESS)
        command.add_argument("overrides", nargs="*", metavar="key=value", default=[])
    return command


# ---- sub-commands ------------------------------------------------------------------------------------------------


def _add_train(commands: Any) -> None:
    parser = _command(commands, "train", _train, "train an encoder (ConCURL on the embedded digits)", hydra=True)
    parser.add_argument("--method", metavar="NAME", help="shiftbench list methods")
    parser.add_argument(
        "--preset", choices=("paper", "common"), help="each paper's recipe, or one budget for all methods"
    )
    parser.add_argument("--data", metavar="NAME", help="shiftbench list datasets; folder:PATH, npz:PATH for your own")


def _train(given: argparse.Namespace) -> None:
    overrides = named_override("method", given.method, registry.METHODS) + data_overrides(given.data)
    overrides += [f"preset={given.preset}"] if given.preset else []

    def task(config: dict[str, Any]) -> None:
        from shiftbench.runtime.console import say
        from shiftbench.trainers import fit

        say(f"Trained: {fit(config)}")

    run_hydra("train", given, overrides, task)


def _add_evaluate(commands: Any) -> None:
    parser = _command(commands, "evaluate", _evaluate, "score encoders, clean and shifted", hydra=True)
    parser.add_argument(
        "--checkpoint",
        metavar="URI",
        action="append",
        help="run folder, weights.pt?arch=..&norm=.., module:callable; repeat",
    )
    parser.add_argument(
        "--shift", metavar="NAME", action="append", help="corruption, natural, all, fog, fog-3, folder:PATH; repeat"
    )
    parser.add_argument("--data", metavar="NAME", help="default: what the newest run was trained on, else digits")
    parser.add_argument("--limit", metavar="N", type=int, help="score only N images of each split")
    parser.add_argument("--overwrite", choices=("missing", "always", "never"), help="which cells to compute")


def _evaluate(given: argparse.Namespace) -> None:
    overrides = data_overrides(given.data or data_of_newest_run(given))
    for key in ("checkpoint", "shift"):
        if getattr(given, key):
            overrides.append(f"{key}=[{','.join(map(quoted, getattr(given, key)))}]")
    overrides += [f"{key}={getattr(given, key)}" for key in ("limit", "overwrite") if getattr(given, key) is not None]

    def task(config: dict[str, Any]) -> None:
        from shiftbench.evaluation.evaluate import evaluate
        from shiftbench.reports import report
        from shiftbench.reports.tables import terminal_table
        from shiftbench.runtime import processes
        from shiftbench.runtime.console import print_whole, say

        baseline = config["baseline"]
        results = evaluate(**config)
        if processes.rank():  # the first of torchrun's processes speaks for all
            return
        page = report(results, baseline=baseline)
        print_whole(terminal_table(results))
        say(f"Tables: {results.folder}   Page: {page.resolve()}")
        _report_failures(results)

    run_hydra("evaluate", given, overrides, task)


def _report_failures(results: Any) -> None:
    """A failed cell is a row of its table; the exit code says so too."""
    table = results.cells
    failed = table[table["status"] == "failed"]
    if len(failed):
        raise InputError(
            f"{len(failed)} of {len(table)} cells failed, the first of {failed['encoder'].iloc[0]}: "
            f"{failed['reason'].iloc[0]} (see {results.folder}/cells.csv; the same command tries them again)."
        )


def _add_report(commands: Any) -> None:
    parser = _command(commands, "report", _report, "build the page and tables from saved results")
    parser.add_argument("results", nargs="+", metavar="RESULTS", help="results folders")
    parser.add_argument("-o", "--out", metavar="DIR", help="where to (default: the results folder itself)")
    parser.add_argument("--baseline", metavar="NAME", default="pixels", help="encoder whose errors normalise mCE")
    parser.add_argument("--title", metavar="TEXT")
    parser.add_argument("--figures", action="store_true", help="also each figure as a file of its own")


def _report(given: argparse.Namespace) -> None:
    from shiftbench.reports import report
    from shiftbench.runtime.console import say

    _no_overrides(given)
    folders = given.results[0] if len(given.results) == 1 else given.results
    page = report(folders, given.out, baseline=given.baseline, title=given.title, figures=given.figures)
    say(f"Page: {page.resolve()}")


def _add_corrupt(commands: Any) -> None:
    parser = _command(commands, "corrupt", _corrupt, "write a corrupted copy of a test split, or a picture of it")
    parser.add_argument(
        "--data", metavar="NAME", default="digits", help="shiftbench list datasets; folder:PATH, npz:PATH"
    )
    parser.add_argument("-o", "--out", metavar="PATH", required=True, help="folder, or the picture's file")
    parser.add_argument("--layout", metavar="cifar|imagefolder", default="cifar", help="as CIFAR-10-C or as ImageNet-C")
    parser.add_argument("--corruption", metavar="NAME", action="append", help="default: the 15 common ones; repeat")
    parser.add_argument("--table", metavar="NAME", default="auto", help="severity constants; default by image size")
    parser.add_argument("--seed", metavar="N", type=int, default=0)
    parser.add_argument("--size", metavar="N", type=int, help="pixels that a folder's images are cut to; default 32")
    parser.add_argument("--preview", action="store_true", help="one labelled picture of all corruptions instead")


def _corrupt(given: argparse.Namespace) -> None:
    _no_overrides(given)
    data_overrides(given.data)
    import torch

    from shiftbench.corruptions import corruptions
    from shiftbench.corruptions.export import write_set
    from shiftbench.corruptions.preview import save_contact_sheet
    from shiftbench.data.base import load_dataset
    from shiftbench.images import chunks
    from shiftbench.runtime.console import progress, say

    name, colon, path = given.data.partition(":")
    options = ({"path": path} if colon else {}) | ({"size": given.size} if given.size is not None else {})
    if given.size is not None and name != "folder":
        raise InputError(f"--size is for --data folder:PATH; {name} has a size of its own.")
    data = load_dataset(name, **options)
    test, classes = data.test, data.classes
    out, names = Path(given.out), given.corruption
    if given.preview:
        save_contact_sheet(out, test.images[:19], table=given.table, seed=given.seed, names=names)
        say(f"Picture: {out.resolve()}")
        return
    if test.labels is None:
        raise InputError(f"{given.data} has no labels, and the {given.layout} layout needs them.")
    names = names or corruptions("common")
    images = test.images if isinstance(test.images, torch.Tensor) else (chunk for _, chunk in chunks(test.images, 64))
    with progress("Corrupting images", 5 * len(names) * len(test)) as advance:
        write_set(
            out, images, test.labels, layout=given.layout, names=names, table=given.table, seed=given.seed,
            classes=classes, workers=os.cpu_count() or 1, advance=advance,
        )  # fmt: skip
    say(f"Written: {out.resolve()}")


def _add_list(commands: Any) -> None:
    parser = _command(commands, "list", _list, "the names of one kind: methods, data sets, shifts, ...")
    parser.add_argument("kind", metavar="|".join(KINDS), help="the kind")


def _list(given: argparse.Namespace) -> None:
    _no_overrides(given)
    if given.kind not in KINDS:
        raise unknown("list", given.kind, KINDS)
    entries = KINDS[given.kind]
    width = max(map(len, entries))
    for name, entry in entries.items():
        print(f"{name:{width}}  {entry.summary}{f'  [{entry.group}]' if entry.group else ''}")
        if given.kind == "datasets":
            from shiftbench.data.sources import status

            found, where, advice = status(name)
            print(f"{'':{width}}  {f'found: {where}' if found else f'not found. {advice}'}")


def _add_doctor(commands: Any) -> None:
    parser = _command(
        commands, "doctor", _doctor, "versions, devices, data found; time and space that a run would take"
    )
    parser.add_argument("--checkpoint", metavar="URI", help="also load this encoder and encode a few images")
    parser.add_argument("--data", metavar="NAME", help="also predict what an evaluation on it takes")
    parser.add_argument("--shift", metavar="NAME", action="append", help="... under these shifts; repeat")


def _doctor(given: argparse.Namespace) -> None:
    from shiftbench.cli.doctor import examine

    _no_overrides(given)
    for line in examine(given.checkpoint, data=given.data, shift=given.shift):
        print(line)


def _add_cache(commands: Any) -> None:
    parser = _command(commands, "cache", _cache, "list or remove the features that are kept on disk")
    parser.add_argument("action", choices=("list", "prune"))
    parser.add_argument("--folder", metavar="DIR", default="auto", help="default: $SHIFTBENCH_CACHE, or the user's")
    parser.add_argument(
        "--keep", metavar="SIZE", default="0", help="prune: stop at this size, 5GB; default: remove all"
    )
    parser.add_argument("--unused", metavar="DAYS", type=float, default=0.0, help="prune: only what was not used since")


def _cache(given: argparse.Namespace) -> None:
    from shiftbench.features.cache import FeatureCache, cache_folder

    _no_overrides(given)
    folder = cache_folder(given.folder)
    assert folder is not None
    if not folder.is_dir():
        print(f"No features in {folder}")
        return
    cache = FeatureCache(folder)
    if given.action == "prune":
        removed = cache.prune(keep_bytes=_bytes(given.keep), older_than_days=given.unused)
        print(f"Removed {len(removed)} entries, {_size(sum(entry.bytes for entry in removed))}, from {folder}")
        return
    entries = cache.entries()
    groups: dict[tuple[str, str], list[int]] = {}
    for entry in entries:
        name = (str(entry.about.get("encoder", "?")), str(entry.about.get("feature", "?")))
        groups.setdefault(name, []).append(entry.bytes)
    for (encoder, feature), sizes in groups.items():
        print(f"{encoder}  {feature}  {len(sizes)} entries  {_size(sum(sizes))}")
    print(f"{_size(sum(entry.bytes for entry in entries))} in {folder}")


def _bytes(text: str) -> int:
    """A size like 500MB in bytes."""
    parsed = re.fullmatch(r"(\d+\.?\d*) *([kMGT]?)B?", text, re.IGNORECASE)
    if parsed is None:
        raise InputError(f"--keep {text}: a size like 500MB or 5GB is needed.")
    return int(float(parsed[1]) * 1000 ** " kmgt".index(parsed[2].lower() or " "))


def _size(number: float) -> str:
    power = min(4, int(math.log10(number) / 3)) if number >= 1 else 0
    return f"{number / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"


def _add_convert(commands: Any) -> None:
    parser = _command(commands, "convert", _convert, "turn a checkpoint into plain tensors, which load without risk")
    parser.add_argument("source", metavar="IN", help="a checkpoint")
    parser.add_argument("target", metavar="OUT.safetensors")
    parser.add_argument(
        "--trust", action="store_true", help="run the code that the file may hold: only if you trust it"
    )


def _convert(given: argparse.Namespace) -> None:
    from shiftbench.encoders.convert import convert
    from shiftbench.runtime.console import say

    _no_overrides(given)
    convert(Path(given.source), Path(given.target), trust=given.trust)
    say(f"Written: {given.target}")


def _no_overrides(given: argparse.Namespace) -> None:
    if given.overrides:
        raise InputError(f"{given.command} takes no {given.overrides[0]!r}; see shiftbench {given.command} --help.")
