"""Break the code in many places, one at a time, and see which breaks no test notices: ``make mutants``.

The sample is fixed: of all mutants those whose changed lines hash lowest, so that an edit elsewhere does not change it.
Each is tried in a scratch copy on the tests of its room, and its verdict is added to ``mutants/verdicts.jsonl``; a second
call goes on from there, and ``--again`` tries the survivors anew. CPU time is limited, so that a busy machine kills none.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

import numba
import pytest

sys.path.insert(0, str(Path(__file__).parent / "helpers"))
from changes import Change, Source

CHECKOUT = Path(__file__).resolve().parent.parent
VERDICTS = CHECKOUT / "mutants" / "verdicts.jsonl"
ROOMS = ("metrics", "clustering", "features", "results", "evaluation", "trainers")
MEMORY = 8 * 2**30  # bytes that a mutant may take
SLACK = 20  # seconds of CPU time beside twice what the unbroken code takes
LIBRARIES = ("torch", "pandas", "scipy.stats", "sklearn.cluster", "hypothesis")  # imported once for all mutants


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    file: str
    change: Change

    @property
    def line(self) -> int:
        return self.source[: self.change[0]].count(b"\n") + 1

    @property
    def source(self) -> bytes:
        return (CHECKOUT / self.file).read_bytes()

    @property
    def mutated(self) -> bytes:
        start, end, new = self.change
        return self.source[:start] + new.encode() + self.source[end:]

    @property
    def diff(self) -> str:
        """The changed lines, before and after."""
        start, end, new = self.change
        first, last = self.source.rfind(b"\n", 0, start) + 1, self.source.find(b"\n", end)
        before, after = self.source[first:last], self.source[first:start] + new.encode() + self.source[end:last]
        return "\n".join(
            sign + line for sign, text in (("-", before), ("+", after)) for line in text.decode().splitlines()
        )

    @property
    def name(self) -> str:
        """A hash of the room and the changed lines, whatever their file and place in it."""
        return hashlib.sha256(f"{room(self.file)}\n{self.diff}".encode()).hexdigest()


def sample(size: int) -> list[Mutant]:
    """Those mutants, of all, whose names hash lowest, room by room."""
    registry = (CHECKOUT / "shiftbench" / "registry.py").read_text(encoding="utf-8")
    losses = {"instance", *re.findall(r"\{_METHOD\}\.(\w+):", registry)}
    files = [file for room in ROOMS[:-1] for file in (CHECKOUT / "shiftbench" / room).glob("*.py")]
    mutants: dict[str, Mutant] = {}
    for file in [*files, *(CHECKOUT / "trainers" / f"{loss}.py" for loss in losses)]:
        source = Source(file)
        for change in source.changes(ast.parse(source.bytes)):
            mutant = Mutant(str(file.relative_to(CHECKOUT)), change)
            mutants[mutant.name] = mutant
    chosen = [mutants[name] for name in sorted(mutants)[:size]]
    return sorted(chosen, key=lambda mutant: (ROOMS.index(room(mutant.file)), mutant.file, mutant.change))


def room(file: str) -> str:
    return Path(file).parent.name


def tests_of(file: str, scratch: Path) -> list[str]:
    """The test files of a file's room, those first that are named after it, then those that speak of it."""
    tests, stem = sorted((scratch / "tests" / room(file)).glob("test_*.py")), Path(file).stem
    tests.sort(key=lambda test: (test.stem != f"test_{stem}", not re.search(rf"\b{stem}\b", test.read_text("utf-8"))))
    return [str(test.relative_to(scratch)) for test in tests]


def copy_checkout(scratch: Path) -> None:
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=CHECKOUT, text=True)
    for name in filter(lambda name: (CHECKOUT / name).is_file(), listed.splitlines()):
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, scratch / name)


def run_tests(scratch: Path, tests: list[str], machine_code: Path, seconds: int) -> None:
    """Run tests as a process of its own, which ends with pytest's exit code, or by a signal."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    os.chdir(scratch)
    os.environ |= {"PYTHONPATH": str(scratch), "PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": str(machine_code)}
    sys.path.insert(0, str(scratch))
    sys.dont_write_bytecode = True
    with (scratch / "log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    numba.config.reload_config()
    os._exit(pytest.main(["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests]))


def passes(scratch: Path, file: str, machine_code: Path, seconds: int = 3600) -> tuple[bool, int]:
    """Whether the tests of a file pass, and the CPU time that they took."""
    process = get_context("fork").Process(
        target=run_tests, args=(scratch, tests_of(file, scratch), machine_code, seconds)
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    process.start()
    try:
        process.join(20 * seconds)
    finally:
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return process.exitcode == 0, int(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)


def survives(mutant: Mutant, scratch: Path, seconds: int) -> bool:
    """Try one mutant. It is newer than compiled code of the file, and where numba compiles, nothing is kept at all."""
    file = scratch / mutant.file
    times = file.stat()
    with tempfile.TemporaryDirectory() as empty:
        machine_code = Path(empty) if b"njit" in mutant.source else scratch / "machine_code"
        file.write_bytes(mutant.mutated)
        try:
            return passes(scratch, mutant.file, machine_code, seconds)[0]
        finally:
            file.write_bytes(mutant.source)
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def try_all(mutants: list[Mutant], verdicts: dict[str, bool]) -> None:
    """Give every mutant a verdict, and keep each as soon as it is known."""
    VERDICTS.parent.mkdir(exist_ok=True)
    limits: dict[str, int] = {}
    for library in LIBRARIES:
        import_module(library)
    with tempfile.TemporaryDirectory() as folder, VERDICTS.open("a", encoding="utf-8") as kept:
        scratch = Path(folder)
        copy_checkout(scratch)
        for mutant in mutants:
            where = room(mutant.file)
            if where not in limits:
                passed, seconds = passes(scratch, mutant.file, scratch / "machine_code")
                if not passed:
                    raise SystemExit(f"The tests of {where} fail:\n{(scratch / 'log').read_text()[-4000:]}")
                limits[where] = 2 * seconds + SLACK
            verdicts[mutant.name] = survived = survives(mutant, scratch, limits[where])
            kept.write(json.dumps({"name": mutant.name, "survived": survived, "diff": mutant.diff}) + "\n")
            kept.flush()
            print(f"{'survived' if survived else 'killed':8} {mutant.file}:{mutant.line}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=200, help="how many mutants")
    parser.add_argument("--rooms", nargs="+", default=ROOMS, choices=ROOMS, help="only these")
    parser.add_argument("--again", action="store_true", help="try the survivors anew")
    arguments = parser.parse_args()
    mutants = [mutant for mutant in sample(arguments.n) if room(mutant.file) in arguments.rooms]
    lines = VERDICTS.read_text(encoding="utf-8").splitlines() if VERDICTS.exists() else []
    verdicts = {verdict["name"]: verdict["survived"] for verdict in map(json.loads, lines)}
    try_all(
        [m for m in mutants if verdicts.get(m.name, True) and (arguments.again or m.name not in verdicts)], verdicts
    )
    survivors = [mutant for mutant in mutants if verdicts[mutant.name]]
    for mutant in survivors:
        print(f"\n{mutant.file}:{mutant.line}\n{mutant.diff}")
    print(f"\n{'room':12}{'mutants':>10}{'killed':>10}{'survived':>10}")
    for where in [*arguments.rooms, "all"]:
        tried, alive = (sum(where in (room(m.file), "all") for m in some) for some in (mutants, survivors))
        print(f"{where:12}{tried:10}{tried - alive:10}{alive:10}")


if __name__ == "__main__":
    main()
