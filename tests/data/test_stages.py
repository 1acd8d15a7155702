"""What is recorded, and by whom."""

from concurrent.futures import ThreadPoolExecutor
from time import sleep

from anojax.data import stages


@stages.stage("nap")
def nap(seconds):
    sleep(seconds)
    return seconds


def test_threads_add_up():
    with stages.record() as spent, ThreadPoolExecutor(2) as pool:
        assert list(pool.map(nap, (0.02, 0.03))) == [0.02, 0.03]
    nap_ = spent.spent["nap"]
    assert nap_.calls == 2 and nap_.seconds >= 0.05 and nap_.cpu < nap_.seconds


def test_work_on_a_core_is_told_from_waiting():
    with stages.record() as spent, stages.timed("work"):
        sum(range(300_000))
    assert spent.spent["work"].cpu > 0


def test_nothing_is_kept_outside():
    nap(0)
    with stages.record() as spent:
        pass
    nap(0)
    assert spent.spent == {}


def test_failures_count_and_pass_on():
    with stages.record() as spent:
        try:
            with stages.timed("broken"):
                raise ValueError
        except ValueError:
            pass
    assert spent.spent["broken"].calls == 1
