"""FLOPs against closed forms, a brute count and XLA; what follows from them."""

import dataclasses
import itertools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from toy_task import Stripe, StripeTask, examples, source

from anojax.cli.__main__ import main
from anojax.data.files import encode_png
from anojax.nn.attention import attend
from anojax.nn.diffusion_unet import UNet2D, adm_config
from anojax.optim import Optimizer
from anojax.task import GradientTask
from anojax.training import metrics_log
from anojax.training.flops import Cost, count, peak, update_cost
from anojax.training.loop import Timetable, Watch
from anojax.training.parallel import MeshJit, Pmap
from anojax.training.run import one_update, train

CPU = jax.devices()[:1]
CONFIGS = Path(__file__).parents[2] / "configs" / "train"


def array(*shape):
    return jax.ShapeDtypeStruct(shape, np.float32)


def gradient(function):
    """With respect to all arguments, and the value itself."""

    def both(*arguments):
        every = tuple(range(len(arguments)))
        total = lambda *a: jnp.sum(jnp.sin(function(*a)))  # noqa: E731
        return jax.value_and_grad(total, every)(*arguments)

    return both


def test_products():
    matmul = lambda a, b: a @ b  # noqa: E731
    assert count(matmul, array(5, 7), array(7, 3)) == 2 * 5 * 7 * 3
    assert count(gradient(matmul), array(5, 7), array(7, 3)) == 3 * 2 * 5 * 7 * 3
    batched = lambda a, b: jnp.einsum("bik,bjk->bij", a, b)  # noqa: E731
    assert count(batched, array(4, 5, 7), array(4, 3, 7)) == 4 * 2 * 5 * 7 * 3
    assert count(lambda a: jnp.sin(a) + a.sum(), array(5, 7)) == 0


def test_attention():
    batch, tokens, heads, size = 2, 6, 3, 4
    one = array(batch, tokens, heads, size)
    scores_and_values = 2 * 2 * batch * heads * tokens * tokens * size
    assert count(attend, one, one, one) == scores_and_values
    assert count(gradient(attend), one, one, one) == 3 * scores_and_values


def convolve(stride=1, padding="SAME", dilation=1, spread=1, groups=1):
    def run(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride,) * 2,
            padding,
            (spread,) * 2,
            (dilation,) * 2,
            ("NHWC", "HWIO", "NHWC"),
            groups,
        )

    return run


def test_convolutions_in_closed_form():
    x, kernel = array(2, 10, 13, 6), array(3, 3, 6, 8)
    pairs = 2 * 2 * 6 * 8  # batch, channels in and out; two operations
    assert count(convolve(padding="VALID"), x, kernel) == pairs * 9 * 8 * 11
    # Of three taps, the outer ones leave the image once on each axis.
    assert count(convolve(), x, kernel) == pairs * (3 * 10 - 2) * (3 * 13 - 2)
    strided = count(convolve(padding="VALID", stride=2), x, kernel)
    assert strided == pairs * (3 * 4) * (3 * 6)
    grouped = count(convolve(padding="VALID", groups=2), x, array(3, 3, 3, 8))
    assert grouped == pairs * 9 * 8 * 11 // 2
    dilated = count(convolve(padding="VALID", dilation=2), x, kernel)
    assert dilated == pairs * 9 * 6 * 9
    # Half of the elements on each axis are zeros put between.
    spread = count(convolve(padding=((0, 0),) * 2, spread=2), x, array(2, 2, 6, 8))
    assert spread == pairs * (2 * 9) * (2 * 12)
    assert count(convolve(), array(1, 8, 8, 4), array(1, 1, 4, 4)) == 2 * 64 * 16


GEOMETRIES = [
    {"stride": 2},
    {"stride": 3, "padding": "VALID"},
    {"stride": 2, "padding": ((0, 1), (3, 0))},
    {"padding": "VALID", "dilation": 2},
    {"spread": 2, "padding": ((2, 2), (1, 3))},
    {"stride": 2, "dilation": 2, "spread": 3, "padding": ((4, 1), (2, 2))},
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_convolutions_meet_as_often_as_ones_add_up(geometry):
    """A convolution of ones by ones counts what meets, zeros of any kind left out."""
    run = convolve(**geometry)
    for size, taps in itertools.product(((7, 10), (8, 9)), ((3, 3), (4, 2))):
        x, kernel = np.ones((1, *size, 2)), np.ones((*taps, 2, 3))
        x, kernel = (a.astype(np.float32) for a in (x, kernel))
        expected = 2 * int(np.asarray(run(x, kernel)).sum())
        assert count(run, x, kernel) == expected
        assert count(gradient(run), x, kernel) == 3 * expected


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_of_grouped_convolutions(stride):
    run = convolve(groups=3, stride=stride)
    x, kernel = array(2, 9, 8, 6), array(3, 3, 2, 12)
    assert count(gradient(run), x, kernel) == 3 * count(run, x, kernel)


def test_control_flow():
    x = array(4, 4)
    one = count(jnp.matmul, x, x)
    assert one == 128

    def square(a):
        return a @ a

    def turns(a):
        return lax.scan(lambda c, _: (square(c), None), a, None, length=7)[0]

    def known(a):
        return lax.fori_loop(0, 5, lambda i, c: square(c), a)

    def unknown(a):
        return lax.while_loop(lambda c: c[0, 0] > 0, square, a)

    def either(a):
        return lax.cond(a[0, 0] > 0, lambda b: b @ b @ b, square, a)

    @jax.custom_vjp
    def own(a):
        return square(a)

    own.defvjp(lambda a: (square(a), a), lambda a, g: (g @ a,))

    def over_devices(a):
        mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
        rows = jax.P("d")
        inner = jax.shard_map(
            lambda b: b @ b.T @ b, mesh=mesh, in_specs=rows, out_specs=rows
        )
        return inner(a)

    found = {
        f.__name__: count(f, x)
        for f in (turns, known, unknown, either, own, over_devices)
    }
    assert found == {
        "turns": 7 * one,
        "known": 5 * one,
        "unknown": one,
        "either": 2 * one,
        "own": one,
        "over_devices": 2 * 2 * (2 * 2 * 4 * 2),
    }
    assert count(jax.jit(turns), x) == 7 * one
    assert count(jax.grad(lambda a: own(a).sum()), x) == 2 * one
    assert count(jax.vmap(turns), array(3, 4, 4)) == 3 * 7 * one
    # What is computed twice counts twice; hence `update_cost` leaves it out.
    again = jax.checkpoint(lambda a: jnp.sin(square(jnp.sin(square(a)))))
    plain = count(gradient(again.__wrapped__), x)
    assert plain == 6 * one and count(gradient(again), x) > plain


def test_a_unet_against_xla():
    config = adm_config(
        channels=3,
        width=64,
        multipliers=(1, 2),
        attention_at=(2,),
        layers_per_block=1,
        attention_head_dim=32,
        norm_num_groups=8,
        attn_norm_num_groups=8,
    )
    network = UNet2D(config=config)
    x, t = array(2, 32, 32, 3), jax.ShapeDtypeStruct((2,), np.int32)
    params = jax.eval_shape(network.init, jax.random.key(0), x, t)

    def loss(params, x, t):
        return jnp.sum(network.apply(params, x, t) ** 2)

    step = jax.value_and_grad(loss)
    ours = count(step, params, x, t)
    theirs = jax.jit(step).lower(params, x, t).cost_analysis()["flops"]
    assert ours == pytest.approx(theirs, rel=0.15)
    assert ours < theirs  # which also counts additions and the like


# Of an update.


class Twice(GradientTask):
    """A layer that may be computed twice."""

    remat: bool = False

    def init_networks(self, key, batch):
        return {"w": jnp.ones((8, 8)), "v": jnp.ones((8, 8))}, {}

    def loss(self, params, state, key, batch, reduce):
        rows = batch.images[..., 0]
        layer = lambda x: jnp.sin(jnp.sin(x @ params["w"]) @ params["v"])  # noqa: E731
        layer = jax.checkpoint(layer) if self.remat else layer
        return jnp.mean(layer(rows)), (state.statistics, {})


Twice = dataclasses.dataclass(frozen=True)(Twice)


def test_an_update_counts_the_whole_batch_and_nothing_twice():
    one = 2 * 8 * 8 * 8  # an image's 8 rows by a matrix
    task = Twice(Stripe())
    # Forward and two weights' gradients, and one of what is between the layers.
    expected = 16 * 5 * one
    cost = update_cost(task, examples(2), 16, CPU)
    assert (cost.flops, cost.parameters, cost.peak) == (expected, 128, None)
    assert str(cost) == "81.9 kFLOP, 128 parameters"
    for other in ({"remat": True}, {"accumulate": 4}, {"dtype": "bfloat16"}):
        changed = dataclasses.replace(task, **other)
        assert update_cost(changed, examples(2), 16, CPU) == cost, other


@pytest.mark.parametrize("strategy", [Pmap(), MeshJit(2)], ids=["pmap", "mesh"])
def test_devices_do_not_change_the_cost_but_the_peak(strategy, monkeypatch):
    monkeypatch.setattr("anojax.training.flops.peak", lambda kind, dtype: 1e12)
    task = StripeTask(Stripe())
    cost = one_update(task, source(4), 8, strategy)
    alone = one_update(task, source(4), 8, Pmap(CPU))
    assert cost == dataclasses.replace(alone, peak=8e12) and alone.peak == 1e12
    assert cost.flops > 0 and cost.parameters == 3 * 3 * 4 + 8 + 3 * 3 * 4 + 1


def test_utilisation():
    cost = Cost(flops=2 * 10**12, parameters=10, peak=4e14)
    assert cost.rates(50.0) == {"tflop_per_s": 100.0, "mfu": 0.25}
    assert Cost(10**12, 10).rates(3.0) == {"tflop_per_s": 3.0}
    words = str(Cost(flops=12_345_678_901, parameters=4_100_000))
    assert words == "12.3 GFLOP, 4.1 M parameters"
    assert str(Cost(999_960, 999)) == "1 MFLOP, 999 parameters"


@pytest.mark.parametrize(
    ("kind", "low", "full"),
    [
        ("TPU v2", 22.5, 22.5),
        ("TPU v5 lite", 197, 197),
        ("TPU v5", 459, 459),
        ("TPU v6 lite", 918, 918),
        ("NVIDIA A100-SXM4-80GB", 312, 156),
        ("NVIDIA A100 80GB PCIe", 312, 156),
        ("NVIDIA H100 80GB HBM3", 989.4, 494.7),
        ("NVIDIA H100 PCIe", 756, 378),
        ("NVIDIA H200", 989.4, 494.7),
        ("NVIDIA L4", 121, 60),
        ("Tesla T4", None, 8.1),
        ("Tesla V100-SXM2-16GB", None, 15.7),
        ("NVIDIA L40S", None, None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None, None),
        ("cpu", None, None),
    ],
)
def test_peaks(kind, low, full):
    for dtype, expected in (("bfloat16", low), ("float32", full)):
        found = peak(kind, dtype)
        assert found == (None if expected is None else pytest.approx(expected * 1e12))


def test_the_log_tells_and_the_reader_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("anojax.training.flops.peak", lambda kind, dtype: 5e9)
    task = StripeTask(Stripe(), steps=6, optimizer=Optimizer("sgd", 0.1))
    notes = []
    train(
        task,
        source(8),
        batch_size=4,
        folder=tmp_path,
        timetable=Timetable(6, log_every=3),
        strategy=Pmap(CPU),
        watch=Watch(note=notes.append),
    )
    cost = one_update(task, source(8), 4, Pmap(CPU))
    assert notes.count(f"one update: {cost}") == 1
    rows = metrics_log.read(tmp_path / "metrics.jsonl")
    for row in rows:
        updates_per_s = row["samples_per_s"] / 4
        assert row["tflop_per_s"] == pytest.approx(cost.flops * updates_per_s / 1e12)
        assert row["mfu"] == pytest.approx(row["tflop_per_s"] * 1e12 / 5e9)
    assert rows


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """Good images, and defects of one type with masks."""
    base = tmp_path_factory.mktemp("tiles")
    draw, mask = np.random.default_rng(0), np.zeros((64, 64, 1), np.uint8)
    mask[20:30, 20:40] = 255
    for number in range(5):
        sample_image = draw.integers(0, 255, (64, 64, 3), np.uint8)
        for name, pixels in (
            (f"train/good/{number}.png", sample_image),
            (f"test/spot/{number}.png", sample_image),
            (f"ground_truth/spot/{number}_mask.png", mask),
        ):
            (base / name).parent.mkdir(parents=True, exist_ok=True)
            (base / name).write_bytes(encode_png(pixels))
    return base


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("realnet_tile_cpu", "input"),
        ("defect_gen_tile_cpu", "exemplars"),
    ],
)
def test_configurations_tell_what_they_cost(name, data, tiles, tmp_path, capsys):
    """The plan's figures are those in the head of the file."""
    path = CONFIGS / f"{name}.yaml"
    words = ["train", path, f"data.{data}={tiles}", "--output", tmp_path, "--dry-run"]
    assert main([*map(str, words), "--devices", "1"]) == 0, capsys.readouterr().err
    found = re.search(r"^one update  (.*)$", capsys.readouterr().out, re.M)[1]
    assert f"# One update: {found}" in path.read_text()
