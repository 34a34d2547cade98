import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from threadpoolctl import ThreadpoolController

from shiftbench.errors import InputError
from shiftbench.runtime.parallel import parallel_map, single_threaded

torch = pytest.importorskip("torch")


def threads():
    """The threads that each BLAS and OpenMP pool and torch would use, called from this thread."""
    pools = {pool["filepath"]: pool["num_threads"] for pool in ThreadpoolController().info()}
    return pools | {"torch": torch.get_num_threads()}


@pytest.fixture
def two_threads():
    """Every pool at two threads, so that a limit shows also on one core."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with ThreadpoolController().limit(limits=2):
        yield threads()
    torch.set_num_threads(before)


def test_limits_and_restores(two_threads):
    assert max(two_threads.values()) == 2
    with single_threaded():
        assert set(threads().values()) == {1}
        with single_threaded():
            assert set(threads().values()) == {1}
        assert set(threads().values()) == {1}
    assert threads() == two_threads
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 2


def test_restores_after_an_error(two_threads):
    with pytest.raises(ZeroDivisionError), single_threaded():
        1 / 0  # noqa: B018
    assert threads() == two_threads


def test_every_worker_is_single_threaded(two_threads):
    barrier = threading.Barrier(3, timeout=30)

    def item(_):
        barrier.wait()  # all three are at work
        return threading.get_ident(), set(threads().values())

    seen = parallel_map(item, range(3), workers=3)
    assert len({ident for ident, _ in seen}) == 3
    assert all(counts == {1} for _, counts in seen)
    assert threads() == two_threads


def test_parallel_inside_parallel(two_threads):
    def inner(_):
        return set(threads().values())

    seen = parallel_map(lambda _: parallel_map(inner, range(3), 2), range(2), 2)
    assert seen == [[{1}] * 3] * 2
    assert threads() == two_threads


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_results_in_the_order_of_the_items(workers):
    def square(i):
        time.sleep(0.002 * (i % 3 == 0))
        return i * i

    assert parallel_map(square, (i for i in range(20)), workers) == [i * i for i in range(20)]
    assert parallel_map(square, [], workers) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_an_exception_ends_the_work(workers, two_threads):
    done = []

    def fail_at_five(i):
        if i == 5:
            raise KeyError("five")
        time.sleep(0.001)
        done.append(i)

    with pytest.raises(KeyError, match="five"):
        parallel_map(fail_at_five, range(1000), workers)
    assert len(done) < 100
    assert threads() == two_threads


@pytest.fixture
def _ctrl_c_interrupts():
    """A shell's background jobs, and so some CI jobs, start with this signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.usefixtures("_ctrl_c_interrupts")
def test_ctrl_c_ends_the_work(workers):
    done = []

    def work(i):
        if i == 3:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.005)
        done.append(i)

    with pytest.raises(KeyboardInterrupt):
        parallel_map(work, range(1000), workers)
    assert len(done) < 100


def test_workers_out_of_range():
    with pytest.raises(InputError, match="workers must be at least 1, not 0"):
        parallel_map(print, [1], 0)
