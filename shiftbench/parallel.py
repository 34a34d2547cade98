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
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from shiftbench.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Pools:
    """The thread pools of this process while at least one thread holds them at one thread.

    A BLAS pool belongs to the process: the first holder limits it, the last one restores it. An OpenMP limit
    and that of torch belong to the thread which sets them: each holder limits and restores its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._controller: Any = None
        self._blas: Any = None
        self._torch_threads: int | None = None

    def hold(self) -> Any:
        """Limit the pools for the calling thread; the returned limiter goes back into :meth:`release`."""
        torch = sys.modules.get("torch")
        with self._lock:
            # Asked in every thread: torch prepares a thread at its first question, and would undo the limit then.
            torch_threads = torch.get_num_threads() if torch else None
            if self._holders == 0:
                # Done once, before any worker runs: looking through the loaded libraries while another thread
                # imports one can deadlock.
                self._controller = ThreadpoolController()
                self._blas = self._controller.select(user_api="blas").limit(limits=1)
                self._torch_threads = torch_threads
            self._holders += 1
            openmp = self._controller.select(user_api="openmp").limit(limits=1)
            if self._torch_threads is not None:
                torch.set_num_threads(1)  # type: ignore[union-attr]
        return openmp

    def release(self, openmp: Any) -> None:
        """Undo :meth:`hold` in the same thread."""
        with self._lock:
            if self._torch_threads is not None:
                sys.modules["torch"].set_num_threads(self._torch_threads)
            openmp.restore_original_limits()
            self._holders -= 1
            if self._holders == 0:
                self._blas.restore_original_limits()


_POOLS = _Pools()
_thread = threading.local()


@contextmanager
def single_threaded() -> Iterator[None]:
    """Run BLAS, OpenMP and torch on one thread inside the block, and restore their thread counts after it.

    Entering costs a few milliseconds, entering again inside nothing: hold it around a whole stage. It may be
    held by several threads at once, and limits those that hold it. Libraries that are first loaded inside are
    not limited, so import before.
    """
    if getattr(_thread, "holds", False):
        yield
        return
    openmp = _POOLS.hold()
    _thread.holds = True
    try:
        yield
    finally:
        _thread.holds = False
        _POOLS.release(openmp)


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
        with single_threaded():
            try:
                while todo:
                    try:
                        index, item = todo.popleft()
                    except IndexError:  # another worker took the last one
                        return
                    results[index] = function(item)
            except BaseException:
                todo.clear()
                raise

    if workers <= 1:
        work()
    else:
        with single_threaded(), ThreadPoolExecutor(workers) as executor:
            try:
                for future in [executor.submit(work) for _ in range(workers)]:
                    future.result()
            finally:
                todo.clear()
    return [results[index] for index in range(len(results))]
