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
    """Print a line to stderr for the person who waits, also where stderr is no terminal.

    Examples:
        >>> say("Fetched weights.pt")
    """
    stderr.print(message, markup=False, soft_wrap=True)


def print_whole(table: Table) -> None:
    """Print a table to stdout without cutting anything, wider than the terminal if need be: a cut number is wrong.

    Examples:
        >>> table = Table("encoder", "ACC", box=None)
        >>> table.add_row("pixels", "71.5")
        >>> print_whole(table)  # doctest: +NORMALIZE_WHITESPACE
        encoder  ACC
        pixels   71.5
    """
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

    Examples:
        >>> with progress("Encoding", total=2) as advance:
        ...     advance(info="fog-3")
        ...     advance()
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
