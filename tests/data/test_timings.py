"""What is recorded, and by whom."""

from concurrent.futures import ThreadPoolExecutor
from time import sleep

from anojax.data import timings


@timings.timed_as("nap")
def nap(seconds):
    sleep(seconds)
    return seconds


def test_threads_add_up():
    with timings.record() as spent, ThreadPoolExecutor(2) as pool:
        assert list(pool.map(nap, (0.02, 0.03))) == [0.02, 0.03]
    nap_ = spent.spent["nap"]
    assert nap_.calls == 2 and nap_.seconds >= 0.05 and nap_.cpu < nap_.seconds


def test_work_on_a_core_is_told_from_waiting():
    with timings.record() as spent, timings.timed("work"):
        sum(range(300_000))
    assert spent.spent["work"].cpu > 0


def test_nothing_is_kept_outside():
    nap(0)
    with timings.record() as spent:
        pass
    nap(0)
    assert spent.spent == {}


def test_failures_count_and_pass_on():
    with timings.record() as spent:
        try:
            with timings.timed("broken"):
                raise ValueError
        except ValueError:
            pass
    assert spent.spent["broken"].calls == 1
