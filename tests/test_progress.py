"""The remaining time: of the work, and not of the compiling before it."""

from rich.progress import Task, TaskID

from anojax.progress import SETTLED_S, Remaining


def seconds(column: Remaining, elapsed: float, completed: int) -> float | None:
    clock = iter([elapsed]).__next__
    task = Task(TaskID(0), "", 100, completed, clock)
    task.start_time = 0.0
    return column.seconds(task)


def test_compiling_is_not_taken_for_the_pace():
    column = Remaining()
    assert seconds(column, 0.0, 0) is None
    # An hour of compiling, then ten images a second.
    assert seconds(column, 3600.0, 1) is None
    assert seconds(column, 3600.0 + SETTLED_S / 2, 26) is None
    assert seconds(column, 3600.0 + SETTLED_S, 51) == 4.9
    assert seconds(column, 3610.0, 100) == 0.0


def test_images_of_an_earlier_process_do_not_count():
    column = Remaining()
    assert seconds(column, 0.0, 60) is None
    assert seconds(column, 60.0, 61) is None
    assert seconds(column, 70.0, 71) == 29.0


def test_nothing_after_the_first_result_gives_no_time():
    column = Remaining()
    seconds(column, 0.0, 0)
    seconds(column, 1.0, 1)
    assert seconds(column, 60.0, 1) is None
