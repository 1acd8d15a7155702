"""A choice among branches that stays a choice when it is vmapped.

`jax.lax.switch` under ``vmap`` computes every branch for every example and keeps one
result of each. Here the examples are sorted by branch instead, and a loop walks over
chunks of examples that share a branch, with one scalar switch per chunk: a branch costs
what its own examples cost.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jaxtyping import Array, Bool, Int, PyTree

from anojax.errors import AnojaxError

# What a turn of a device's loop costs, in examples: launches and the round trip that
# decides the branch, against the work on one image. A CPU's loop costs next to nothing.
_TURN_EXAMPLES = {"cpu": 0.1}
_TURN_EXAMPLES_ELSEWHERE = 64.0

Leaves = tuple[Array, ...]


def grouped_switch(
    index: Int[Array, ""] | Bool[Array, ""] | int,
    branches: Sequence[Callable[..., PyTree]],
    *operands: PyTree,
) -> PyTree:
    """``branches[index](*operands)``, as `jax.lax.switch`; cheap under ``vmap``.

    Called for one example it is `jax.lax.switch`. Under ``vmap`` with an index per
    example, every example still goes through its own branch alone; with one index for
    all, the chosen branch is vmapped.

    Reverse-mode differentiation works, with respect to operands and to what branches
    close over, and is grouped likewise; forward mode (`jax.jvp`) is not supported.
    Inside `jax.shard_map` it needs ``check_vma=False``.

    Args:
      index: which branch; clamped to those that exist. A boolean chooses the second
        branch where it is true.
      branches: functions of the operands whose results agree in structure, shapes and
        dtypes. They may close over arrays, traced or not, which become operands.
      *operands: pytrees of arrays.

    Returns:
      What the branch returns.

    Raises:
      AnojaxError: there are no branches, or their results do not agree.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> f = lambda i, x: grouped_switch(i, [jnp.sin, jnp.cos, lambda x: 0 * x], x)
      >>> jax.vmap(f)(jnp.array([2, 1, 2]), jnp.zeros(3)).tolist()
      [0.0, 1.0, 0.0]
    """
    traced, captured = _trace(branches, operands)
    leaves = (*jax.tree.leaves(operands), *captured)
    index = jnp.clip(jnp.asarray(index, jnp.int32), 0, len(branches) - 1)
    of_leaves = [_ignoring_state(run) for run, _ in traced]
    shapes, tree = traced[0][1]
    out = _choose(index, of_leaves, (), tuple(map(jnp.asarray, leaves)), shapes)
    return jax.tree.unflatten(tree, out)


def grouped_update(
    index: Int[Array, ""] | int,
    branches: Sequence[Callable[..., PyTree]],
    state: PyTree,
    *operands: PyTree,
) -> PyTree:
    """``branches[index](state, *operands)``, or `state` itself for any other index.

    Like `grouped_switch`, for branches that change a state. Under ``vmap``, examples
    whose index is no branch's are not touched at all: their state is not even copied.

    Args:
      index: which branch; below 0, or not below ``len(branches)``, is none of them.
      branches: functions of the state and the operands that return a new state of the
        same structure, shapes and dtypes.
      state: a pytree of arrays.
      *operands: pytrees of arrays.

    Returns:
      The new state.

    Raises:
      AnojaxError: there are no branches, or one returns something else than a state.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> f = lambda i, x: grouped_update(i, [jnp.negative, jnp.zeros_like], x)
      >>> jax.vmap(f)(jnp.array([-1, 0, 1]), jnp.ones(3)).tolist()
      [1.0, -1.0, 0.0]
    """
    state = jax.tree.map(jnp.asarray, state)
    traced, captured = _trace(branches, (state, *operands))
    kept, tree = jax.tree.flatten(state)
    shapes = tuple(jax.typeof(x) for x in kept)
    for i, (_, found) in enumerate(traced):
        if not _agree(found, (shapes, tree)):
            raise AnojaxError(
                f"grouped_update: branch {i} returns {_in_words(found)}; it must return "
                f"a state like the one it is given, {_in_words((shapes, tree))}"
            )
    leaves = (*jax.tree.leaves(operands), *captured)
    count = len(branches)
    index = jnp.asarray(index, jnp.int32)
    index = jnp.where((index >= 0) & (index < count), index, count)
    of_leaves = [_of_state(run) for run, _ in traced]
    out = _choose(
        index, of_leaves, tuple(kept), tuple(map(jnp.asarray, leaves)), shapes
    )
    return jax.tree.unflatten(tree, out)


def chunk_size(examples: int, branches: int) -> int:
    """How many examples of one branch go through a turn of the loop together.

    A turn has a price, and the last chunk of every branch is half empty on average:
    ``turn * examples / chunk + branches * chunk / 2`` is least at the root of
    ``2 * turn * examples / branches``. Rounded to a power of two.
    """
    turn = _TURN_EXAMPLES.get(jax.default_backend(), _TURN_EXAMPLES_ELSEWHERE)
    best = math.sqrt(2.0 * turn * examples / branches)
    return min(examples, 2 ** max(0, round(math.log2(best))))


# ---------------------------------------------------------------- one example

Run = Callable[[Leaves, Leaves], Leaves]
"""A branch, as a function of the leaves of its state and of its operands."""


def _choose(
    index: Array, branches: list[Run], state: Leaves, operands: Leaves, shapes: tuple
) -> Leaves:
    """The chosen branch; the state where the index is ``len(branches)``."""
    every = [*branches, lambda state, operands: state] if state else branches

    @custom_vmap
    def choose(index, state, operands):
        return lax.switch(index, every, state, operands)

    @choose.def_vmap
    def _(size, batched, index, state, operands):
        axes = jax.tree.map(lambda b: 0 if b else None, tuple(batched[1:]))
        if not batched[0]:
            many = [jax.vmap(run, axes, axis_size=size) for run in every]
            out = lax.switch(index, many, state, operands)
        else:
            # A rule is also given NumPy arrays.
            operands = tuple(map(jnp.asarray, operands))
            state = tuple(
                jnp.asarray(x) if b else jnp.broadcast_to(x, (size, *x.shape))
                for x, b in zip(state, batched[1], strict=True)
            )
            out = _walk(index, size, branches, state, operands, axes[1], shapes)
        return out, tuple(True for _ in out)

    @jax.custom_vjp
    def differentiable(index, state, operands):
        return choose(index, state, operands)

    def forward(index, state, operands):
        return choose(index, state, operands), (index, state, operands)

    def backward(saved, cotangents):
        index, state, operands = saved
        given = (state, operands)
        pulled = grouped_switch(
            jnp.minimum(index, len(every) - 1),
            [_pull_back(run) for run in every],
            given,
            tuple(c for c in cotangents if c.dtype != jax.dtypes.float0),
        )
        pulled = iter(pulled)
        back = jax.tree.map(lambda x: next(pulled) if _is_real(x) else None, given)
        return None, *back

    differentiable.defvjp(forward, backward)
    return differentiable(index, state, operands)


def _pull_back(run: Run) -> Callable:
    """From the cotangents of a branch's real results to those of its real inputs."""

    def back(given, cotangents):
        leaves, tree = jax.tree.flatten(given)

        def of_reals(reals):
            reals = iter(reals)
            mixed = [next(reals) if _is_real(x) else x for x in leaves]
            return [y for y in run(*jax.tree.unflatten(tree, mixed)) if _is_real(y)]

        _, pull = jax.vjp(of_reals, [x for x in leaves if _is_real(x)])
        return tuple(pull(list(cotangents))[0])

    return back


def _is_real(x: Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


# ---------------------------------------------------------------- many examples


def _walk(
    index: Int[Array, " b"],
    size: int,
    branches: list[Run],
    state: Leaves,
    operands: Leaves,
    axes: PyTree,
    shapes: tuple,
) -> Leaves:
    """Every example through its branch, chunk by chunk.

    The results are written over the state, whose rows are read once each, before that:
    no copy of it is made.
    """
    count, chunk = len(branches), chunk_size(size, len(branches))
    order = jnp.argsort(index)
    examples = jnp.sum(
        index[:, None] == jnp.arange(count)[None], axis=0, dtype=jnp.int32
    )
    last = jnp.cumsum(examples)
    chunks = -(-examples // chunk)
    until = jnp.cumsum(chunks)
    lanes = jnp.arange(chunk, dtype=jnp.int32)

    def on_chunk(run):
        # Taken inside the branch: what a branch does not use, it does not fetch.
        def taken(rows, state, operands):
            state = jax.tree.map(lambda x: _rows(x, rows), state)
            operands = jax.tree.map(
                lambda x, axis: x if axis is None else _rows(x, rows), operands, axes
            )
            in_axes = (jax.tree.map(lambda _: 0, state), axes)
            return jax.vmap(run, in_axes, axis_size=chunk)(state, operands)

        return taken

    every = [on_chunk(run) for run in branches]

    def turn(carry):
        now, results = carry
        branch = jnp.sum(now >= until, dtype=jnp.int32)
        first = last[branch] - examples[branch]
        place = first + chunk * (now - until[branch] + chunks[branch]) + lanes
        # The last chunk of a branch is filled up with its last example; those results
        # go nowhere: rows from `size` on do not exist.
        rows = order[jnp.minimum(place, last[branch] - 1)]
        target = jnp.where(place < last[branch], rows, size + lanes)
        given = results if state else ()
        new = lax.switch(branch, every, rows, given, operands)
        results = tuple(
            old.at[target].set(x, mode="drop", unique_indices=True)
            for old, x in zip(results, new, strict=True)
        )
        return now + 1, results

    results = state or tuple(jnp.zeros((size, *s.shape), s.dtype) for s in shapes)
    return lax.while_loop(
        lambda carry: carry[0] < until[-1], turn, (jnp.int32(0), results)
    )[1]


def _rows(x: Array, rows: Int[Array, " k"]) -> Array:
    return x.at[rows].get(mode="promise_in_bounds")


# ---------------------------------------------------------------- tracing


def _trace(branches: Sequence[Callable], operands: tuple) -> tuple[list, Leaves]:
    """The branches as functions of leaves, and the arrays that they close over.

    A batching rule must not see values of an outer trace, so they become operands; also
    constants, which a surrounding choice may have batched.
    """
    if not branches:
        raise AnojaxError("a choice needs at least one branch; none is given")
    captured: list = []
    found = []
    for branch in branches:
        closed, shape = jax.make_jaxpr(branch, return_shape=True)(*operands)
        for const in closed.consts:
            if not any(const is known for known in captured):
                captured.append(const)
        found.append((closed, (tuple(closed.out_avals), jax.tree.structure(shape))))
        if not _agree(found[-1][1], found[0][1]):
            raise AnojaxError(
                f"branch {len(found) - 1} of a choice returns {_in_words(found[-1][1])}"
                f" and branch 0 {_in_words(found[0][1])}; they must agree"
            )

    def runner(closed):
        places = [
            next(i for i, known in enumerate(captured) if const is known)
            for const in closed.consts
        ]

        def run(leaves: Leaves) -> Leaves:
            first = len(leaves) - len(captured)
            consts = [leaves[first + i] for i in places]
            whole = ClosedJaxpr(closed.jaxpr, consts)
            # Constants come back as NumPy arrays.
            return tuple(map(jnp.asarray, jaxpr_as_fun(whole)(*leaves[:first])))

        return run

    runs = [(runner(closed), result) for closed, result in found]
    return runs, tuple(map(jnp.asarray, captured))


def _ignoring_state(run: Callable) -> Run:
    return lambda state, operands: run(operands)


def _of_state(run: Callable) -> Run:
    return lambda state, operands: run((*state, *operands))


def _agree(one: tuple, other: tuple) -> bool:
    return one[1] == other[1] and all(
        (a.shape, a.dtype) == (b.shape, b.dtype)
        for a, b in zip(one[0], other[0], strict=True)
    )


def _in_words(result: tuple) -> str:
    shapes, tree = result
    return str(jax.tree.unflatten(tree, [f"{s.dtype}{list(s.shape)}" for s in shapes]))
