"""Where the time of a run goes."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Wall and CPU seconds by stage, summed over threads.

    Attributes:
        wall: seconds by stage; a stage that runs in several threads at once counts in each.
        cpu: CPU seconds of the threads that ran the stage.
        images: images encoded.

    Examples:
        >>> clock = Clock()
        >>> with clock("encode", images=10):
        ...     pass
        >>> clock.images, list(clock.seconds("wall"))
        (10, ['encode'])
    """

    def __init__(self) -> None:
        self.wall: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self.images = 0
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, stage: str, images: int = 0) -> Iterator[None]:
        """Count what the block takes."""
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            with self._lock:
                self.wall[stage] += time.perf_counter() - wall
                self.cpu[stage] += time.thread_time() - cpu
                self.images += images

    def seconds(self, of: str) -> dict[str, float]:
        """Seconds by stage, rounded to milliseconds; ``of`` is "wall" or "cpu"."""
        return {stage: round(seconds, 3) for stage, seconds in getattr(self, of).items()}
