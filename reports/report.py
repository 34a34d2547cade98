"""From saved results to the page and its short tables."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from shiftbench.errors import InputError
from shiftbench.records import atomic_path, write_text
from shiftbench.reports.merge import copied, merge
from shiftbench.reports.page import render
from shiftbench.reports.tables import as_latex, as_markdown, short_tables
from shiftbench.results.summary import BASELINE
from shiftbench.results.tables import Results

PAGE = "report.html"
TEXTS = {"summary.md": as_markdown, "summary.tex": as_latex}

ResultsLike = Results | str | Path


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's garbage collector, which would walk through all figures again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_uncollected()
def report(
    results: ResultsLike | Sequence[ResultsLike],
    out: str | Path | None = None,
    *,
    baseline: str = BASELINE,
    title: str | None = None,
    figures: bool = False,
) -> Path:
    """Write ``report.html``, one file that needs no network, and its short tables as ``summary.md`` and ``summary.tex``.

    Args:
        results: a results folder, a Results, whose tables are taken as they are, or several of them, which are merged.
        out: the folder to write into; None is the folder of the results, where there is just one. The tables are
            written beside the page unless they already stand there.
        baseline: the encoder that normalises mCE.
        title: the page's heading; None makes one.
        figures: also write every figure as SVG and PNG into ``figures/``.

    Returns:
        The path of the page.

    Raises:
        InputError: not a results folder, results that cannot be compared, no such baseline, no ``out``, or one that
            is the folder of a merged evaluation.
        OSError: the folder cannot be written.

    Examples:
        >>> import shiftbench
        >>> results = shiftbench.evaluate("pixels", floors=[], seeds=2, limit=60)
        >>> report(results, "out").name
        'report.html'
    """
    given = [results] if isinstance(results, (Results, str, Path)) else list(results)
    if not given:
        raise InputError("Nothing to report: name at least one results folder.")
    parts = [part if isinstance(part, Results) else Results.load(part) for part in given]
    home = parts[0].folder if len(parts) == 1 else None
    if out is None and home is None:
        raise InputError("Several results, or one made in memory, need a folder to write into: give out=DIR (-o DIR).")
    folder = Path(out or home or "")
    _check_place(folder, parts)
    merged = merge(parts, baseline)
    with ExitStack() as files, ThreadPoolExecutor(1) as pool:  # tables of many encoders take long to write
        elsewhere = merged.folder is None or folder.resolve() != merged.folder.resolve()
        saved = copied(merged) if elsewhere else merged
        changed = elsewhere or merged.summary is not parts[0].summary  # by another baseline
        writing = pool.submit(files.enter_context, saved.saving(folder)) if changed else None
        page = render(merged, title)
        if writing is not None:
            writing.result()
    write_text(folder / PAGE, page.html)
    tables = short_tables(merged)
    for name, as_text in TEXTS.items():
        write_text(folder / name, as_text(tables))
    for drawing in page.drawings if figures else []:
        for name, content in drawing.files().items():
            with atomic_path(folder / "figures" / name) as temporary:
                temporary.write_bytes(content)
    return folder / PAGE


def _check_place(folder: Path, parts: Sequence[Results]) -> None:
    """An evaluation's folder is its own: merged tables in it would end what can go on there."""
    for part in parts if len(parts) > 1 else []:
        if part.folder is not None and part.folder.resolve() == folder.resolve() and "sources" not in part.run:
            raise InputError(f"{str(folder)!r} is one of the evaluations to be merged: name another folder with -o.")
