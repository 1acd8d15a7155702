"""Measuring what a step needs to know of many images, before the first and now and then.

A context is a fold over batches of the images in their order, with the networks as they
are at that moment. It runs on all devices like a step, and gives on eight what it gives
on one.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from anojax.data.stream import Stream
from anojax.task import Examples, Task, TrainState
from anojax.training.durations import to_steps
from anojax.training.parallel import Strategy


class Contexts:
    """The contexts of a task during one run.

    Args:
      task: says which there are.
      stream: of training, of which images and batch size are taken.
      strategy: over devices.
      steps_per_call: measurements happen between calls.
      key: of the run, placed.
      bank: what examples draw from, placed.

    Raises:
      SettingError: a time between measurements that cannot be understood.
    """

    def __init__(
        self,
        task: Task,
        stream: Stream,
        strategy: Strategy,
        steps_per_call: int,
        key: Any,
        bank: Any,
    ):
        self.task, self.strategy, self.key, self.bank = task, strategy, key, bank
        self.stream = replace(stream, shuffle=False)
        self.every: dict[str, int | None] = {}
        for name, context in task.contexts().items():
            self.every[name] = None
            if context.every is not None:
                steps = to_steps(
                    context.every,
                    batch_size=stream.batch_size,
                    images=len(stream.source),
                    total=task.steps,
                    what=f"{task.name}'s context '{name}'",
                )
                self.every[name] = -(-steps // steps_per_call) * steps_per_call

    def due(self, step: int) -> list[str]:
        """Those to be measured before update `step` (0 is the first)."""
        return [
            name
            for name, every in self.every.items()
            if step == 0 or (every is not None and step % every == 0)
        ]

    def measured(self, state: TrainState, names: list[str]) -> TrainState:
        """The state with some contexts measured anew, one after the other."""
        for name in names:
            found = self._measure(name, state)
            state = state.replace(context={**state.context, name: found})
        return state

    def _measure(self, name: str, state: TrainState) -> Any:
        start, visit, finish = self.strategy.compile_fold(self.task, name)
        # Moments of the optimizer would only be copied to and fro.
        known, fold = state.replace(opt_state=()), None
        for batch, weights in self._batches(self.task.contexts()[name].batches):
            batch, weights = self.strategy.place_batch((batch, weights))
            fold = start(known, batch) if fold is None else fold
            fold = visit(fold, known, self.key, self.bank, batch, weights)
        return finish(fold)

    def _batches(self, most: int | None) -> Iterator[tuple[Examples, np.ndarray]]:
        """All images once, ``[1, B, ...]``; weights are 0 where a batch is filled up."""
        images, size = len(self.stream.source), self.stream.batch_size
        own = size // self.stream.processes
        count = -(-images // size)
        batches = self.stream.batches()
        for number in range(count if most is None else min(most, count)):
            first = number * size + self.stream.process * own
            rows = first + np.arange(own)
            yield next(batches), (rows < images).astype(np.float32)[None]
