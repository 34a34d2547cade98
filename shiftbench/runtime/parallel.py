"""One thread per work item, and parallelism over the items.

A thread pool inside a thread pool makes results depend on the number of cores and, next to a busy neighbour,
small operations many times slower. So a stage holds :func:`single_threaded`, and what can run side by side
goes through :func:`parallel_map`.
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

    Entering costs a few milliseconds, entering again inside nothing: hold it around a whole stage. BLAS pools
    belong to the process, so other threads had better work for the holder, through :func:`parallel_map`.
    Libraries that are first loaded inside are not limited: import before.
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
    """Hold pools at one thread for the calling thread, which OpenMP and torch count on their own."""
    torch = sys.modules.get("torch")
    # Asking comes first: torch prepares a thread when it is first asked, which would undo an earlier limit.
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

    It pays where the function works outside the interpreter lock (numpy, torch, numba with ``nogil``).

    Args:
        function: called once per item.
        items: the work, taken up in this order.
        workers: number of threads, at least 1; with 1 the calling thread does the work.

    Returns:
        The results in the order of the items.

    Raises:
        InputError: ``workers`` is below 1.
        BaseException: what a call raised, or Ctrl-C; calls under way finish, no further one starts.
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
            except IndexError:  # another worker took the last one
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
