"""Synthesis with what a training run has learned: `--checkpoint RUN`."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import fakes
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

import anojax as front
from anojax import registry
from anojax import task as tasks
from anojax.core import Card, Synthesizer, hp
from anojax.data import textures
from anojax.data.files import decode_png
from anojax.data.records import read_image, to_size
from anojax.evaluation import speed
from anojax.ops.blend import local_synthesis
from anojax.optim import Optimizer
from anojax.task import GradientTask
from anojax.training.checkpoint import load_params, restore_flat

from .conftest import draw, files, write_image


@dataclass(frozen=True)
class Tint(Synthesizer):
    """A square in a learned color."""

    card: ClassVar[Card] = Card(family="local", **fakes.PAPER)
    name = "tint"
    width: int = hp(3, "learned numbers per channel", low=1, high=9)
    side: int = hp(6, "side in pixels", low=1, high=12)

    def init(self, key, inputs):
        shape = (self.width, inputs.image.shape[-1])
        return {"color": {"logits": 0.3 * jax.random.normal(key, shape)}}

    def synthesize(self, params, key, inputs):
        shape, noise = jax.random.split(key)
        color = jax.nn.sigmoid(jnp.mean(params["color"]["logits"], 0)) * 0.9
        color = color + 0.1 * jax.random.uniform(noise)
        new = jnp.broadcast_to(color, inputs.image.shape)
        return local_synthesis(
            inputs, new, fakes.square(shape, inputs.image, self.side)
        )


@dataclass(frozen=True)
class TintTask(GradientTask):
    """Moves the color away from where it began."""

    name = "tint"
    synth: Tint
    optimizer: Optimizer = Optimizer("sgd", 1.0)
    ema_decay: float = hp(0.5, "of the averaged parameters", low=0.0, high=1.0)

    def init_networks(self, key, batch):
        one = jax.tree.map(lambda x: x[0], batch.inputs)
        return self.synth.init(key, one), {}

    def loss(self, params, state, key, batch, reduce):
        made = self.draw(key, batch, params=params)
        return -jnp.mean(made.image), (state.statistics, {})

    def params(self, state):
        return state.params


@dataclass(frozen=True)
class Other(Tint):
    """Another one that learns."""

    name = "other"


METHODS = fakes.METHODS | {"tint": Tint, "other": Other}


@pytest.fixture(scope="module", autouse=True)
def methods():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "get", METHODS.__getitem__)
        patch.setattr(registry, "names", lambda: tuple(METHODS))
        patch.setattr(
            registry, "cards", lambda: {n: m.card for n, m in METHODS.items()}
        )
        patch.setattr(tasks, "get", lambda name, stage=None: TintTask)
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    for i in range(7):
        write_image(folder / f"part{i}.png", draw(i, (16, 16), 3))
    return folder


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """A run of three steps whose synthesizer has a setting of its own."""
    return train(images, tmp_path_factory.mktemp("runs"))


def train(images, folder, **more):
    from anojax.cli.__main__ import main

    config = {
        "method": "tint",
        "data": {"input": str(images), "size": 16, "foreground": "none"},
        "settings": {"width": 2, "side": 4},
        "length": 3,
        "batch_size": 4,
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config | more))
    words = ("--output", folder / "run", "--devices", 1, "--quiet")
    assert main([str(w) for w in ("train", folder / "c.yaml", *words)]) == 0
    return folder / "run"


@pytest.fixture
def program(capsys):
    from anojax.cli.__main__ import main

    def run(*argv):
        capsys.readouterr()
        code = main([str(arg) for arg in argv])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


@pytest.fixture
def synth(program, images, tmp_path):
    def run(*more, output="run", method="tint", command="synth", folder=images):
        where = tmp_path / output
        return program(
            *(command, "--method", method, "--input", folder, "--size", 16),
            *("--foreground", "none", "--output", where, *more),
        )

    return run


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the training run, to be spoiled."""
    return Path(shutil.copytree(trained, tmp_path / "copied"))


def rows(run):
    return [json.loads(line) for line in (run / "manifest.jsonl").open()]


def refused(result, *words):
    code, out, err = result
    assert code == 2 and not out, (code, out, err)
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("anojax: "), err
    for word in words:
        assert str(word) in err, (word, err)


def learned(run):
    flat, _ = load_params(run / "model", method="tint")
    return {"color": {"logits": np.asarray(flat["color/logits"])}}


def test_the_model_has_the_averaged_parameters_and_the_step(trained):
    flat, record = restore_flat(trained / "checkpoints", method="tint")
    average, last = flat["ema/color/logits"], flat["params/color/logits"]
    assert np.abs(average - last).max() > 1e-3
    np.testing.assert_array_equal(learned(trained)["color"]["logits"], average)
    _, stored = load_params(trained / "model", method="tint")
    assert stored.step == record.step == 3


def test_images_are_those_of_the_learned_parameters(synth, trained, tmp_path):
    code, out, err = synth("--checkpoint", trained, "--per-image", 2)
    assert code == 0, err
    assert f"checkpoint  {trained} (tint, step 3)" in out
    assert "tint.width=2" in out and "tint.side=4" in out  # as it was trained
    run = tmp_path / "run"
    found = rows(run)
    images = [to_size(read_image(r["source"]).array, (16, 16)) for r in found]
    expected = front.batch(Tint(width=2, side=4), uint8=True)(
        learned(trained),
        0,
        [r["example_id"] for r in found],
        front.Inputs(image=np.stack(images)),
    )
    for row, image in zip(found, np.asarray(expected.image), strict=True):
        np.testing.assert_array_equal(
            decode_png((run / row["image"]).read_bytes()), image
        )


def test_the_run_says_which_checkpoint(synth, trained, tmp_path):
    synth("--checkpoint", trained, "--seed", 3, method="spot,tint")
    resolved = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    facts = resolved["checkpoint"]
    assert (facts["method"], facts["step"]) == ("tint", 3)
    assert (
        facts["config"] == yaml.safe_load((trained / "config.yaml").read_text())["hash"]
    )
    assert resolved["request"]["checkpoint"] == str(trained.resolve())
    for row in rows(tmp_path / "run"):
        own = row["settings"].get("checkpoint")
        assert own == (facts["sha256"] if row["method"] == "tint" else None)


def test_batches_and_devices_change_no_byte(synth, trained, tmp_path):
    more = ("--checkpoint", trained, "--per-image", 3)
    synth(*more, output="a", method="tint,spot")
    synth(*more, "--batch-size", 5, "--devices", 3, output="b", method="tint,spot")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_parameters_are_arguments_of_the_program(trained):
    """Other parameters, another image, and no new compilation."""
    run = front.batch(Tint(width=2))
    inputs = front.Inputs(image=np.zeros((4, 16, 16, 3), np.uint8))
    one = learned(trained)
    other = jax.tree.map(lambda x: x + 1, one)
    first = run(one, 0, range(4), inputs)
    traces = run.traces()
    second = run(other, 0, range(4), inputs)
    assert np.abs(np.asarray(first.image - second.image)).max() > 0.01
    assert run.traces() == traces


def test_an_interrupted_run_continues(synth, trained, tmp_path, monkeypatch):
    more = ("--checkpoint", trained)
    synth(*more, output="whole")
    from anojax.data import write

    commit, calls = write._commit, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return commit(*args)

    monkeypatch.setattr(write, "_commit", interrupted)
    assert synth(*more)[0] == 130
    monkeypatch.setattr(write, "_commit", commit)
    assert synth(*more)[0] == 0
    assert files(tmp_path / "run") == files(tmp_path / "whole")


def test_a_run_continues_with_the_same_checkpoint_only(synth, copied, images, tmp_path):
    assert synth("--checkpoint", copied)[0] == 0
    again = tmp_path / "again"
    again.mkdir()
    other = train(images, again, seed=1)
    shutil.rmtree(copied)
    shutil.copytree(other, copied)
    refused(
        synth("--checkpoint", copied),
        "holds a run with another configuration",
        "checkpoint.sha256",
    )


def test_verify_loads_it_again(synth, program, copied, images, tmp_path):
    synth("--checkpoint", copied)
    code, out, err = program("verify", tmp_path / "run")
    assert code == 0 and "all 7 images agree" in out, err
    moved = copied.rename(tmp_path / "moved")
    refused(program("verify", tmp_path / "run", "--quiet"), "no run folder", copied)
    assert program("verify", tmp_path / "run", "--checkpoint", moved)[0] == 0
    again = tmp_path / "again"
    again.mkdir()
    other = train(images, again, length=4)
    refused(
        program("verify", tmp_path / "run", "--checkpoint", other, "--quiet"),
        "is not that of the run",
        "step: 3 -> 4",
    )


def test_config_of_a_run_repeats_it(synth, program, trained, tmp_path):
    synth("--checkpoint", trained, "--set", "side=5")
    code, _, err = program(
        *("synth", "--config", tmp_path / "run/config.yaml"),
        *("--output", tmp_path / "again"),
    )
    assert code == 0, err
    assert files(tmp_path / "run") == files(tmp_path / "again")
    assert {row["settings"]["side"] for row in rows(tmp_path / "run")} == {5}


def test_preview(synth, trained):
    code, _, err = synth(
        "--checkpoint", trained, command="preview", output="sheet.png", method="tint"
    )
    assert code == 0, err


def test_images_of_another_kind_are_left_out(synth, images, trained, tmp_path):
    mixed = Path(shutil.copytree(images, tmp_path / "mixed"))
    write_image(mixed / "part9.png", draw(9, (16, 16), 1))
    code, _, err = synth("--checkpoint", trained, folder=mixed)
    assert code == 0 and "left out 1" in err and "part9.png has 1 channels" in err
    assert len(rows(tmp_path / "run")) == 7


def test_list_and_show_say_that_it_learns(program):
    _, out, _ = program("list", "--json")
    learns = {e["name"]: e["learns"] for e in json.loads(out) if "learns" in e}
    assert learns == {"spot": False, "weave": False, "tint": True, "other": True}
    assert "training" in program("list")[1]
    assert "anojax train tint" in " ".join(program("show", "tint")[1].split())


def test_bench_says_that_parameters_are_random(program, monkeypatch):
    monkeypatch.setattr(speed, "copy_bandwidth", lambda devices: 1e9)
    monkeypatch.setattr(textures, "texture_bank", lambda *_, **__: None)
    words = ("--method", "spot,tint", "--size", 16, "--batch-size", 2)
    more = ("--devices", 1, "--seconds", 0.01, "--json")
    code, out, err = program("bench", *words, *more)
    assert code == 0, err
    random = {row["method"]: row["random_parameters"] for row in json.loads(out)}
    assert random == {"spot": False, "tint": True}
    assert "random parameters" in err


class TestNothingIsWritten:
    @pytest.fixture(autouse=True)
    def nothing_written(self, tmp_path):
        yield
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("command", ["synth", "preview"])
    def test_without_a_checkpoint(self, synth, command):
        output = "run" if command == "synth" else "run.png"
        refused(
            synth(command=command, output=output),
            "tint synthesizes with what it has learned",
            "anojax train tint",
            "--checkpoint RUN",
        )

    def test_one_that_learns_beside_one_that_does_not(self, synth):
        refused(synth(method="spot,tint"), "anojax train tint")

    def test_two_that_learn(self, synth, trained):
        refused(
            synth("--checkpoint", trained, method="tint,other"),
            "anojax train other",
            "apart from tint",
        )

    def test_of_another_method(self, synth, trained):
        refused(
            synth("--checkpoint", trained, method="spot"),
            "is a training run of 'tint', not of spot",
        )

    def test_of_a_method_that_learns_nothing(self, synth, copied):
        text = (copied / "config.yaml").read_text()
        text = text.replace("method: tint", "method: spot")
        (copied / "config.yaml").write_text(text)
        refused(synth("--checkpoint", copied, method="spot"), "leave --checkpoint out")

    def test_missing(self, synth, tmp_path):
        refused(synth("--checkpoint", tmp_path / "nowhere"), "no run folder", "nowhere")

    def test_no_training_run(self, synth, images):
        refused(synth("--checkpoint", images), "is not the folder of a training run")

    def test_unfinished(self, synth, copied):
        shutil.rmtree(copied / "model")
        refused(synth("--checkpoint", copied), "holds no model yet")

    def test_half_written(self, synth, copied):
        (step,) = (copied / "model").iterdir()
        shutil.rmtree(step / "state")
        refused(synth("--checkpoint", copied), "half-written or damaged")
        (step / "_CHECKPOINT_METADATA").unlink()
        refused(synth("--checkpoint", copied), "holds only the unfinished")

    def test_settings_of_another_shape(self, synth, trained):
        refused(
            synth("--checkpoint", trained, "--set", "width=3"),
            "has another shape",
            "color/logits is (2, 3), here (3, 3)",
        )

    def test_images_of_another_kind(self, synth, trained):
        refused(
            synth("--checkpoint", trained, "--gray"),
            "(2, 3), here (2, 1)",
            "kind of images",
        )


def test_a_run_without_a_checkpoint_is_verified_without(
    synth, program, trained, tmp_path
):
    synth(method="spot")
    refused(
        program("verify", tmp_path / "run", "--checkpoint", trained, "--quiet"),
        "was made without a checkpoint",
    )
