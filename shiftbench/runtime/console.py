"""What a person at the terminal sees while something runs. Messages and bars go to stderr, results to stdout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

stderr = Console(stderr=True, highlight=False)
stdout = Console(highlight=False)


def say(message: str) -> None:
    """Print one line for the person who waits; shown whether or not stderr is a terminal."""
    stderr.print(message, markup=False, soft_wrap=True)


def print_whole(table: Table) -> None:
    """Print a table to stdout with every character, wider than the terminal if it must be: a cut number is a wrong one."""
    wide = Console(file=stdout.file, highlight=False, width=400)
    wide.width = max(stdout.width, Measurement.get(wide, wide.options, table).maximum)
    wide.print(table)


@contextmanager
def progress(task: str, total: int, start: int = 0) -> Iterator[Callable[..., None]]:
    """A progress bar that shows nothing unless stderr is a terminal.

    Args:
        task: what is being done.
        total: number of steps.
        start: steps already done (a resumed run).

    Yields:
        ``advance(steps=1, info="")``: count steps and replace the text behind the bar.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}"),
    )
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as bar:
        identity = bar.add_task(task, total=total, completed=start, info="")

        def advance(steps: int = 1, info: str = "") -> None:
            bar.update(identity, advance=steps, info=info)

        yield advance
