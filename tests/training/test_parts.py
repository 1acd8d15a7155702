"""Networks that a run starts with, and what is measured before its first step."""

import json
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from toy_task import Stripe, StripeTask, grouped, source

from anojax.cli.__main__ import main
from anojax.data.files import encode_png
from anojax.data.stream import Stream
from anojax.detector import score_batch
from anojax.errors import AnojaxError, CheckpointError, DataError, SettingError
from anojax.methods.generative.realnet import Realnet
from anojax.methods.generative.realnet.detector import RealnetDetectorTask
from anojax.optim import Optimizer
from anojax.task import Component, Examples
from anojax.training import checkpoint
from anojax.training.components import read_components
from anojax.training.loop import Timetable
from anojax.training.parallel import Pmap
from anojax.training.run import CHECKPOINTS, MODEL, train
from anojax.training.start import Beginning, starting_point
from anojax.training.trained import load_trained
from anojax.types import Bank, Inputs

LEVEL = {"params": {"level": np.linspace(0.1, 1, 16, dtype=np.float32)}}


@dataclass(frozen=True)
class LevelTask(StripeTask):
    """A stripe's network beside a frozen vector, whose sum weighs a measured mean."""

    def components(self):
        return {"base": Component("backbone", "resnet18")}

    def init_networks(self, key, batch):
        params, norm = super().init_networks(key, batch)
        return params, {"norm": norm, "seen": jnp.zeros(())}

    def init_frozen(self, key, batch):
        return {"base": jax.tree.map(jnp.zeros_like, LEVEL)}

    def begin(self, state, key, batches):
        level = state.frozen["base"]["params"]["level"].sum()
        seen = [next(batches).images.mean() for _ in range(3)]
        seen = np.float32(level * np.mean(seen))
        return state.replace(statistics={**state.statistics, "seen": seen})

    def loss(self, params, state, key, batch, reduce):
        known = state.replace(statistics=state.statistics["norm"])
        loss, (norm, metrics) = super().loss(params, known, key, batch, reduce)
        return loss, ({**state.statistics, "norm": norm}, metrics)

    def detector(self):
        return None


TASK = LevelTask(Stripe(), steps=4, optimizer=Optimizer("adam", 1e-2))


def run(folder=None, devices=1, **options):
    options = {
        "components": {"base": LEVEL},
        "timetable": Timetable(4, save_every=2),
    } | options
    strategy = Pmap(jax.devices()[:devices])
    return train(
        TASK,
        source(),
        batch_size=12,
        seed=3,
        folder=folder,
        strategy=strategy,
        **grouped(options),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    return folder, run(folder)


def test_a_part_comes_before_what_is_measured_with_it(whole):
    _, outcome = whole
    found = outcome.state.statistics
    jax.tree.map(np.testing.assert_array_equal, outcome.state.frozen["base"], LEVEL)
    batches = Stream(source(), 12, seed=3).batches()
    means = [next(batches).inputs.image.mean() / 255 for _ in range(3)]
    np.testing.assert_allclose(found["seen"], 8.8 * np.mean(means), rtol=1e-5)
    variables, _ = checkpoint.load_variables(whole[0] / MODEL)
    np.testing.assert_array_equal(variables["statistics"]["seen"], found["seen"])


def test_devices_do_not_average_what_is_frozen(whole):
    """The mean of three equal numbers need not be that number."""
    state = run(devices=3).state
    jax.tree.map(np.testing.assert_array_equal, state.frozen["base"], LEVEL)
    found = state.statistics
    seen = whole[1].state.statistics["seen"]
    np.testing.assert_allclose(found["seen"], seen, rtol=1e-6)


def test_a_run_that_goes_on_measures_nothing(whole, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    def die(state):
        raise Killed

    with pytest.raises(Killed):
        run(tmp_path, timetable=Timetable(4, save_every=2, eval_every=3), evaluate=die)
    assert checkpoint.steps(tmp_path / CHECKPOINTS) == [2]
    monkeypatch.setattr(LevelTask, "begin", None)
    outcome = run(tmp_path, components=None)
    jax.tree.map(np.testing.assert_array_equal, outcome.state, whole[1].state)


def wrong(shape):
    return {"base": {"params": {"level": np.zeros(shape, np.float32)}}}


@pytest.mark.parametrize(
    ("parts", "error", "words"),
    [
        ({"bases": LEVEL}, SettingError, "no component 'bases'; did you mean 'base'"),
        (None, SettingError, r"needs its component 'base' \(resnet18\); give"),
        (wrong(3), CheckpointError, r"components.base .*level is \(3,\), here \(16,\)"),
        ({"base": {"x": np.zeros(2)}}, CheckpointError, "params/level is not in it"),
    ],
)
def test_parts_that_do_not_fit(parts, error, words):
    with pytest.raises(error, match=words) as caught:
        run(components=parts)
    assert "\n" not in str(caught.value)


def test_parts_are_read_from_where_they_are_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setenv("ANOJAX_WEIGHTS", str(tmp_path))
    with pytest.raises(DataError, match="resnet18 are missing.*components.base=random"):
        read_components(TASK, {})
    assert read_components(TASK, {"base": "random"})["base"].variables is None
    with pytest.raises(DataError, match="none.pth does not exist"):
        read_components(TASK, {"base": str(tmp_path / "none.pth")})
    with pytest.raises(
        SettingError, match=r"components.basis is no component .* it takes base"
    ):
        read_components(TASK, {"basis": "random"})


# The detector of RealNet, whose features come from elsewhere.

CONFIG = {
    "method": "realnet",
    "stage": "detector",
    "settings": {"painter": "stored", "on_empty": "rescale", "exponents": [0, 2]},
    "task": {
        "backbone": "resnet18",
        "backbone_width": 8,
        "selected": [4, 0, 0, 0],
        "selection_batches": 2,
        "multipliers": [1],
        "blocks": 1,
        "head_channels": 2,
        "norm_groups": 2,
        "by_max": 3,
        "by_mean": 3,
    },
    "components": {"backbone": "random"},
    "length": 2,
    "batch_size": 4,
    "log_every": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four waves to learn from, three other images to generate with."""
    folder = tmp_path_factory.mktemp("realnet")
    y, x = np.mgrid[:32, :32]
    for i in range(7):
        sample_image = 127 + 100 * np.sin(x / 3 + i) * np.cos(y / (4 + i))
        path = folder / ("good" if i < 4 else "generated") / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_png(sample_image.astype(np.uint8)[..., None]))
    return folder


@pytest.fixture(scope="module")
def command(folder):
    def call(name, *overrides):
        images, generated = folder / "good", folder / "generated"
        data = {"input": str(images), "textures": str(generated), "size": 32}
        data |= {"gray": True, "foreground": "none"}
        (folder / "c.yaml").write_text(yaml.safe_dump(CONFIG | {"data": data}))
        words = ("train", folder / "c.yaml", *overrides, "--output", folder / name)
        return main([str(w) for w in (*words, "--devices", 1, "--quiet")])

    return call


def test_a_detector_on_random_features(folder, command):
    assert command("run") == 0
    trained = load_trained(folder / "run")
    trained.check_fits((32, 64, 1))
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 1), np.uint8)
    maps, scores = score_batch(trained.detector, trained.variables, images)
    assert maps.shape == (2, 32, 64) and np.isfinite(scores).all()
    rows = [json.loads(line) for line in (folder / "run/metrics.jsonl").open()]
    assert [row["step"] for row in rows] == [1, 2]
    assert {"restoration", "segmentation"} <= set(rows[0])
    chosen = trained.variables["statistics"]["selection"]
    assert all((np.diff(x) > 0).all() for x in chosen.values())
    with pytest.raises(AnojaxError, match="both sides are multiples of 4"):
        trained.check_fits((34, 32, 1))


def test_a_detector_without_its_features(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ANOJAX_WEIGHTS", str(tmp_path))
    assert command("none", "components.backbone=pretrained") != 0
    found = capsys.readouterr().err
    assert "resnet18-f37072fd.pth" in found and "components.backbone=random" in found
    assert command("refused", "settings.painter=model") != 0
    assert "generated beforehand" in capsys.readouterr().err


def test_features_from_elsewhere():
    """They are what the channels are chosen by, and refused where they do not fit."""
    values = {
        k: tuple(v) if isinstance(v, list) else v for k, v in CONFIG["task"].items()
    }
    task = RealnetDetectorTask(Realnet(painter="stored"), **values)
    assert task.components() == {"backbone": Component("backbone", "resnet18")}
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 1), np.uint8)
    bank = Bank(images[4:])
    batch = Examples(Inputs(image=images[:4]), np.arange(4, dtype=np.uint32), bank)

    def start(backbone):
        return starting_point(
            task,
            Pmap(jax.devices()[:1]),
            batch,
            seed=0,
            beginning=Beginning(components={"backbone": backbone}),
            batches=lambda: iter([batch] * 2),
        ).state

    given = jax.device_get(jax.jit(task.features.init)(jax.random.key(7)))
    found = jax.tree.map(lambda x: np.asarray(x)[0], start(given))
    jax.tree.map(np.testing.assert_array_equal, found.frozen["backbone"], given)
    assert all((np.diff(x) > 0).all() for x in found.statistics["selection"].values())
    del given["params"]["layer4_1"]
    with pytest.raises(CheckpointError, match=r"layer4_1\S+ is not in it"):
        start(given)
