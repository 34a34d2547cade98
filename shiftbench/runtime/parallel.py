"""A single thread for each work item, and parallelism over the items.

A thread pool inside a thread pool makes results depend on the number of cores and, on a busy machine, makes small
operations many times slower. So a stage holds :func:`single_threaded`, and work that can run in parallel goes through
:func:`parallel_map`.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import ThreadpoolController

from shiftbench.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

_thread = threading.local()  # .pools: the pools that this thread holds at one thread


@contextmanager
def single_threaded() -> Iterator[ThreadpoolController]:
    """Run BLAS, OpenMP and torch on one thread inside the block, and restore their thread counts after it.

    Entering takes a few milliseconds, but nothing inside another such block: hold it around a whole stage. BLAS pools
    belong to the process, so other threads should work through :func:`parallel_map`. A library that is first loaded
    inside the block is not limited: import it before.

    Examples:
        >>> with single_threaded() as pools:
        ...     all(pool["num_threads"] == 1 for pool in pools.info() if pool["user_api"] == "blas")
        True
    """
    pools = getattr(_thread, "pools", None)
    if pools is not None:
        yield pools
        return
    pools = ThreadpoolController()
    with _limited(pools):
        yield pools


@contextmanager
def _limited(pools: ThreadpoolController) -> Iterator[None]:
    """Hold pools at one thread for the calling thread; OpenMP and torch have a thread count for each thread."""
    torch = sys.modules.get("torch")
    # Ask first: torch prepares a thread when it is first asked, which would undo an earlier limit.
    torch_threads = torch.get_num_threads() if torch else 0
    _thread.pools = pools
    try:
        with pools.limit(limits=1):
            if torch:
                torch.set_num_threads(1)
            yield
    finally:
        if torch:
            torch.set_num_threads(torch_threads)
        _thread.pools = None


def parallel_map(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> list[Result]:
    """Apply a function to each item in worker threads, each of which is :func:`single_threaded`.

    It is faster where the function works outside the interpreter lock (numpy, torch, numba with ``nogil``).

    Args:
        function: called once per item.
        items: the work, started in this order.
        workers: number of threads, at least 1; with 1 the calling thread does the work.

    Returns:
        The results in the order of the items.

    Raises:
        InputError: ``workers`` is below 1.
        BaseException: what a call raised, or Ctrl-C; running calls finish, and no further call starts.

    Examples:
        >>> parallel_map(abs, [-1, 2, -3], workers=2)
        [1, 2, 3]
    """
    if workers < 1:
        raise InputError(f"workers must be at least 1, not {workers}.")
    todo = deque(enumerate(items))
    results: dict[int, Result] = {}
    workers = min(workers, len(todo))

    def work() -> None:
        while todo:
            try:
                index, item = todo.popleft()
            except IndexError:  # another worker took the last item
                return
            results[index] = function(item)

    def work_in_thread(pools: ThreadpoolController) -> None:
        try:
            with _limited(pools):
                work()
        finally:
            todo.clear()  # after an error the others stop too

    with single_threaded() as pools:
        if workers <= 1:
            work()
        else:
            with ThreadPoolExecutor(workers) as executor:
                try:
                    for future in [executor.submit(work_in_thread, pools) for _ in range(workers)]:
                        future.result()
                finally:
                    todo.clear()  # after Ctrl-C here
    return [results[index] for index in range(len(results))]
