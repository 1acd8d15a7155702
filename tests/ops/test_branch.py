"""The grouped switch: equal to `lax.switch` in every setting, and each branch once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from anojax.errors import AnojaxError
from anojax.ops import branch
from anojax.ops.branch import grouped_switch, grouped_update

BRANCHES = (
    lambda x, y: {"sum": x + y, "first": x[0]},
    lambda x, y: {"sum": x * y, "first": x[1]},
    lambda x, y: {"sum": jnp.sin(x), "first": y},
)


def grouped(index, x, y):
    return grouped_switch(index, BRANCHES, x, y)


def plain(index, x, y):
    return lax.switch(index, BRANCHES, x, y)


def examples(count, branches=3):
    draw = np.random.default_rng(count)
    index = draw.integers(0, branches, count).astype(np.int32)
    x, y = draw.normal(size=(count, 4)), draw.normal(size=count)
    return tuple(map(jnp.asarray, (index, x.astype(np.float32), y.astype(np.float32))))


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(params=[1, 2, 5, 64])
def chunk(request, monkeypatch):
    """Whatever the size of the chunks is."""
    size = lambda examples, branches: min(examples, request.param)  # noqa: E731
    monkeypatch.setattr(branch, "chunk_size", size)


@pytest.mark.parametrize("count", [1, 2, 7, 33])
def test_equals_the_plain_switch(count, chunk):
    index, x, y = examples(count)
    expected = [plain(*one) for one in zip(index, x, y, strict=True)]
    found = jax.jit(jax.vmap(grouped))(index, x, y)
    assert_same(found, jax.tree.map(lambda *v: np.stack(v), *expected))
    assert_same(grouped(index[0], x[0], y[0]), expected[0])


def test_one_index_for_all_and_unbatched_operands():
    index, x, y = examples(9)
    for axes in ((None, 0, 0), (0, 0, None), (0, None, 0), (None, 0, None)):
        given = [
            v if a == 0 else v[3] for v, a in zip((index, x, y), axes, strict=True)
        ]
        assert_same(
            jax.jit(jax.vmap(grouped, axes))(*given),
            jax.jit(jax.vmap(plain, axes))(*given),
        )


def test_branches_that_nobody_takes_and_indices_beyond(chunk):
    _, x, y = examples(6)
    index = np.array([1, 1, 1, -4, 9, 1], np.int32)
    clamped = np.array([1, 1, 1, 0, 2, 1], np.int32)
    assert_same(jax.vmap(grouped)(index, x, y), jax.vmap(plain)(clamped, x, y))


def test_a_single_branch_and_a_boolean():
    _, x, y = examples(5)
    only = jax.vmap(lambda x, y: grouped_switch(0, BRANCHES[:1], x, y))(x, y)
    np.testing.assert_array_equal(only["sum"], x + y[:, None])
    which = x[:, 0] > 0
    found = jax.vmap(lambda b, x, y: grouped_switch(b, BRANCHES[:2], x, y))(which, x, y)
    np.testing.assert_array_equal(
        found["sum"], np.where(which[:, None], x * y[:, None], x + y[:, None])
    )


def test_values_closed_over_become_operands(chunk):
    index, x, y = examples(11)

    def choose(switch):
        def f(index, x, y):
            twice = 2 * y
            return switch(
                index,
                [lambda: x + twice, lambda: x * twice, lambda: x - jnp.arange(4.0)],
            )

        return jax.jit(jax.vmap(f))(index, x, y)

    assert_same(choose(grouped_switch), choose(lax.switch))


def test_nested_in_loops_and_in_each_other(chunk):
    index, x, y = examples(13)

    def choose(switch):
        def inner(i, x):
            return switch(i % 2, [lambda x: x + y[0], lambda x: -x], x)

        def step(i, x):
            return switch((i + 1) % 3, [lambda x: inner(i, x), jnp.cos, lambda x: x], x)

        def f(i, x):
            return lax.scan(lambda x, k: (step(i + k, x), x.sum()), x, jnp.arange(3))

        return jax.jit(jax.vmap(f))(index, x)

    assert_same(choose(grouped_switch), choose(lax.switch))


def test_inside_a_plain_switch_whose_branches_are_all_computed():
    """There, even constants that a branch closes over are batched."""
    index, x, y = examples(8)
    table = jnp.arange(4.0)

    def f(i, x, y):
        chosen = [lambda: x + table, lambda: x * table, lambda: x - y]
        return lax.switch(
            i, [lambda: x, lambda: grouped_switch(i - 1, chosen), lambda: -x]
        )

    found = jax.jit(jax.vmap(f))(index, x, y)
    for i in range(8):
        np.testing.assert_array_equal(found[i], f(index[i], x[i], y[i]))


def test_vmap_of_vmap():
    index, x, y = (v.reshape(3, 4, *v.shape[1:]) for v in examples(12))
    assert_same(
        jax.vmap(jax.vmap(grouped))(index, x, y), jax.vmap(jax.vmap(plain))(index, x, y)
    )


def test_keys_are_operands():
    keys = jax.random.split(jax.random.key(0), 6)
    index = np.array([0, 1, 1, 0, 1, 0], np.int32)

    def f(i, key):
        return grouped_switch(i, [jax.random.uniform, jax.random.normal], key)

    found = jax.vmap(f)(index, keys)
    for i, key, value in zip(index, keys, found, strict=True):
        assert value == (jax.random.normal if i else jax.random.uniform)(key)


def test_reverse_mode(chunk):
    index, x, y = examples(10)
    scale = jnp.float32(1.5)

    def loss(switch, x, y, scale):
        def f(index, x, y):
            branches = [
                lambda x: x * scale,
                lambda x: jnp.sin(x * y),
                lambda x: x * 0 + y,
            ]
            return switch(index, branches, x)

        return (jax.vmap(f)(index, x, y) ** 2).sum()

    given = (x, y, scale)
    found, expected = (
        jax.jit(jax.grad(lambda *a, s=s: loss(s, *a), (0, 1, 2)))(*given)
        for s in (grouped_switch, lax.switch)
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_what_is_not_differentiated_does_not_stand_in_the_way():
    """Examples are made inside training steps, and do not depend on the weights."""
    index, x, y = examples(4)

    def loss(weight):
        made = jax.vmap(grouped)(index, x, y)["sum"]
        return (weight * made).sum(), made

    slope, made = jax.jit(jax.grad(loss, has_aux=True))(jnp.float32(2.0))
    np.testing.assert_allclose(slope, made.sum(), rtol=1e-6)


def test_update_leaves_the_others_alone(chunk):
    index, x, y = examples(17, branches=5)
    index = index - 1

    def f(i, x, y):
        branches = [lambda s, y: (s[0] + y, s[1]), lambda s, y: (s[0], s[1] + 1)]
        return grouped_update(i, branches, (x, jnp.int32(7)), y)

    values, counts = jax.jit(jax.vmap(f))(index, x, y)
    np.testing.assert_array_equal(
        values, np.where((index == 0)[:, None], x + y[:, None], x)
    )
    np.testing.assert_array_equal(counts, np.where(index == 1, 8, 7))
    for i in range(17):
        assert_same(f(index[i], x[i], y[i]), (values[i], counts[i]))


def test_update_under_reverse_mode():
    index = np.array([0, -1, 0, 1], np.int32)
    x = np.arange(4, dtype=np.float32)

    def loss(x):
        branches = [jnp.sin, lambda s: s * s]
        return jax.vmap(lambda i, s: grouped_update(i, branches, s))(index, x).sum()

    np.testing.assert_allclose(
        jax.grad(loss)(x), [1.0, 1.0, np.cos(2.0), 6.0], rtol=1e-6
    )


def test_on_several_devices():
    devices = np.array(jax.devices()[:4])
    index, x, y = examples(24)
    part = PartitionSpec("example")
    run = jax.shard_map(
        jax.vmap(grouped),
        mesh=Mesh(devices, ("example",)),
        in_specs=part,
        out_specs=part,
        check_vma=False,
    )
    assert_same(jax.jit(run)(index, x, y), jax.vmap(plain)(index, x, y))


def test_every_branch_stands_in_the_program_once_and_chunks_are_not_whole_batches():
    index, x, y = examples(64)
    text = jax.jit(jax.vmap(grouped)).lower(index, x, y).as_text()
    assert text.count("stablehlo.sine") == 1
    width = branch.chunk_size(64, 3)
    assert 1 <= width < 64
    assert f"tensor<{width}x4xf32>" in text


def test_a_chunk_grows_with_the_batch_and_never_beyond_it():
    sizes = [branch.chunk_size(n, 6) for n in (1, 2, 7, 64, 1024, 16384)]
    assert sizes == sorted(sizes) and sizes[0] == 1
    assert all(s & (s - 1) == 0 for s in sizes if s != 7)
    assert branch.chunk_size(3, 1) <= 3


def test_mistakes_are_named():
    with pytest.raises(AnojaxError, match="at least one branch"):
        grouped_switch(0, [], 1.0)
    with pytest.raises(AnojaxError, match=r"branch 1 .* must agree"):
        grouped_switch(0, [lambda x: x, lambda x: x[:2]], jnp.zeros(3))
    with pytest.raises(AnojaxError, match="branch 0 returns .* like the one"):
        grouped_update(0, [lambda s: s > 0], jnp.zeros(3))
