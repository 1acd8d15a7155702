"""One network for several categories: which number each has, from training to verify."""

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

from anojax import registry
from anojax.config import load
from anojax.core import Card, Synthesizer, hp
from anojax.data.categories import Categories
from anojax.data.folders import discover_all
from anojax.data.records import read_image
from anojax.errors import AnojaxError, DataError
from anojax.ops.blend import local_synthesis
from anojax.optim import Optimizer
from anojax.task import Component, GradientTask
from anojax.training.config import TrainConfig
from anojax.types import Inputs

from .conftest import files, write_image

LEVELS = {"part1": 40, "part2": 120, "part10": 200}  # in natural order


@dataclass(frozen=True)
class Tone(Synthesizer):
    """A square in the color that it has learned for the image's category."""

    card: ClassVar[Card] = Card(family="local", **fakes.PAPER)
    name = "tone"
    side: int = hp(6, "side in pixels", low=1, high=12)
    classes: int | None = hp(None, "categories", low=1)
    darker: bool = hp(False, "with a second network, which makes it darker")

    @property
    def needs(self):
        return () if self.classes is None else ("label",)

    def init(self, key, inputs):
        channels = inputs.image.shape[-1]
        made = {"color": {"table": jnp.zeros((self.classes or 1, channels))}}
        if self.darker:
            made["shade"] = {"factor": jnp.ones((channels,))}
        return made

    def color(self, params, label):
        color = params["color"]["table"][0 if self.classes is None else label]
        return color * params["shade"]["factor"] if self.darker else color

    def synthesize(self, params, key, inputs):
        new = jnp.broadcast_to(self.color(params, inputs.label), inputs.image.shape)
        return local_synthesis(inputs, new, fakes.square(key, inputs.image, self.side))


@dataclass(frozen=True)
class ToneTask(GradientTask):
    """The mean color of the images of every category."""

    method = "tone"
    stage: ClassVar[str] = "colors"
    synth: Tone
    optimizer: Optimizer = Optimizer("sgd", 1.0)

    def init_networks(self, key, batch):
        if batch.images.shape[1] % 8:
            raise AnojaxError("the network cannot halve these images")
        one = Inputs(image=batch.images[0])
        return {"color": self.synth.init(key, one)["color"]}, {}

    def loss(self, params, state, key, batch, reduce):
        found = jax.vmap(lambda i: params["color"]["table"][i])(self.labels(batch))
        error = found - batch.images.mean((1, 2))
        return jnp.sum(jnp.mean(error**2, 0)), (state.statistics, {})

    def labels(self, batch):
        label = batch.inputs.label
        return jnp.zeros_like(batch.ids) if label is None else label

    def params(self, state):
        return state.averaged


@dataclass(frozen=True)
class ShadeTask(ToneTask):
    """How dark, starting with the colors that are known."""

    stage: ClassVar[str] = "shade"

    def components(self):
        return {"color": Component("run", "colors")}

    def init_networks(self, key, batch):
        made = self.synth.init(key, Inputs(image=batch.images[0]))
        return {"shade": made["shade"]}, {}

    def init_frozen(self, key, batch):
        made = self.synth.init(key, Inputs(image=batch.images[0]))
        return {"color": {"color": made["color"]}}

    def loss(self, params, state, key, batch, reduce):
        loss = jnp.sum((params["shade"]["factor"] - 0.5) ** 2) / 2
        return loss, (state.statistics, {})

    def params(self, state):
        return {**state.frozen["color"], **state.averaged}


METHODS = fakes.METHODS | {"tone": Tone}


@pytest.fixture(scope="module", autouse=True)
def methods():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "get", METHODS.__getitem__)
        patch.setattr(registry, "names", lambda: tuple(METHODS))
        cards = {name: method.card for name, method in METHODS.items()}
        patch.setattr(registry, "cards", lambda: cards)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set of three categories; the first has gray images."""
    folder = tmp_path_factory.mktemp("sets")
    for name, level in LEVELS.items():
        shape = (16, 16, 1 if name == "part1" else 3)
        for i in range(4):
            sample_image = np.full(shape, level + 3 * i - 3, np.uint8)
            write_image(folder / "set" / name / "train/good" / f"{i}.png", sample_image)
    config = {
        "method": "tone",
        "data": {"size": 16, "foreground": "none"},
        "settings": {"side": 4},
        "length": 40,
        "batch_size": 12,
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return folder


def main(*words):
    from anojax.cli.__main__ import main

    return main([str(word) for word in words])


def train(folder, output, *words, given="set"):
    flags = ("--input", folder / given, "--output", output, "--devices", 1, "--quiet")
    return main("train", folder / "c.yaml", *words, *flags)


@pytest.fixture(scope="module")
def trained(folder):
    assert train(folder, folder / "run") == 0
    return folder / "run"


@pytest.fixture
def program(capsys):
    def run(*words):
        capsys.readouterr()
        code = main(*words)
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


@pytest.fixture
def synth(program, folder, trained, tmp_path):
    def run(name, *more, output="made", command="synth"):
        return program(
            *(command, "--method", "tone", "--checkpoint", trained, "--size", 16),
            *("--input", folder / "set" / name, "--foreground", "none"),
            *("--output", tmp_path / output, *more),
        )

    return run


def refused(result, *words):
    code, out, err = result
    assert code == 2 and not out, (code, out, err)
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("anojax: "), err
    for word in words:
        assert str(word) in err, (word, err)


def rows(run):
    return [json.loads(line) for line in (run / "manifest.jsonl").open()]


def inside(run, row):
    image = read_image(run / row["image"]).array.astype(int)
    return image[read_image(run / row["mask"]).array[..., 0] > 0]


def test_numbers_follow_the_names(folder, trained):
    kept = json.loads((trained / "categories.json").read_text())
    assert kept == {"categories": list(LEVELS), "channels": 3}
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["request"]["settings"]["classes"] == 3
    assert config["request"]["data"]["input"] == str(folder / "set")


@pytest.mark.parametrize("name", LEVELS)
def test_the_category_is_that_of_the_folder(synth, program, tmp_path, name):
    code, out, err = synth(name)
    assert code == 0 and f"category {name}" in out, err
    made = rows(tmp_path / "made")
    for row in made:
        assert row["image"].startswith(f"{name}/test/tone/")
        assert row["settings"]["category"] == name
        assert row["settings"]["label"] == list(LEVELS).index(name)
        # Gray images became color, and the color is the one of the category.
        assert np.abs(inside(tmp_path / "made", row) - LEVELS[name] - 1.5).max() < 3
    assert len(made) == 4 and program("verify", tmp_path / "made", "--quiet")[0] == 0


def test_named_by_hand(synth, program, folder, tmp_path):
    moved = Path(shutil.copytree(folder / "set/part2", tmp_path / "new"))
    unknown = "does not know the category 'new'; it knows part1, part2, part10"
    refused(synth(moved), unknown, "--category")
    refused(synth(moved, command="preview", output="made.png"), unknown)
    refused(synth(moved, "--category", "a/part2"), "give a name, not a path")
    assert not (tmp_path / "made").exists()
    assert synth(moved, "--category", "part2")[0] == 0
    assert {row["settings"]["label"] for row in rows(tmp_path / "made")} == {1}
    assert (tmp_path / "made/part2/train/good").is_dir()
    synth("part2", output="same")
    again = [inside(tmp_path / "same", row) for row in rows(tmp_path / "same")]
    for row, pixels in zip(rows(tmp_path / "made"), again, strict=True):
        np.testing.assert_array_equal(inside(tmp_path / "made", row), pixels)
    assert program("verify", tmp_path / "made", "--quiet")[0] == 0


def test_verify_after_the_folder_was_renamed(synth, program, folder, tmp_path):
    shutil.copytree(folder / "set/part10", tmp_path / "part10")
    assert synth(tmp_path / "part10")[0] == 0
    renamed = (tmp_path / "part10").rename(tmp_path / "other")
    code, _, err = program("verify", tmp_path / "made", "--input", renamed)
    assert code == 0, err


def test_interrupted_and_continued_elsewhere(synth, tmp_path, monkeypatch):
    from anojax.data import write

    more = ("--per-image", 3, "--batch-size", 4)
    assert synth("part2", *more, output="whole")[0] == 0
    commit, calls = write._commit, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return commit(*args)

    monkeypatch.setattr(write, "_commit", interrupted)
    assert synth("part2", *more)[0] == 130
    assert not (tmp_path / "made/manifest.jsonl").exists()
    monkeypatch.setattr(write, "_commit", commit)
    assert synth("part2", "--per-image", 3, "--batch-size", 5, "--devices", 3)[0] == 0
    assert files(tmp_path / "made") == files(tmp_path / "whole")


def test_a_whole_data_set_is_no_input_of_synth(synth, tmp_path):
    refused(synth("."), "holds 3 categories (part1, part2, part10)")


# Training.


def test_categories_in_natural_order(folder):
    for layout in ("auto", "mvtec"):
        found = discover_all(folder / "set", layout)
        assert [source.category for source in found] == list(LEVELS)
        assert all(len(source.paths) == 4 for source in found)
    with pytest.raises(DataError, match="not laid out as 'btad'"):
        discover_all(folder / "set", "btad")


def test_one_name_twice():
    with pytest.raises(DataError, match="two categories are called 'a'"):
        Categories(("a", "b", "a"), 3)


def test_one_category_stays_as_it_was(folder, tmp_path):
    assert train(folder, tmp_path / "run", "length=1", given="set/part2") == 0
    assert not (tmp_path / "run/categories.json").exists()
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert config["request"]["settings"]["classes"] is None


@pytest.mark.parametrize(
    ("given", "words", "says"),
    [
        ("set", ["settings.classes=5"], "settings.classes is 5, but"),
        ("set", ["settings.classes=5"], "has 3 categories (part1, part2, part10)"),
        ("set/part1", ["settings.classes=2"], "has 1 categories (part1)"),
        ("set", ["method=spot", "settings={}"], "nothing to train"),
        ("set", ["eval_every=1"], "measured on one category"),
        ("set", ["data.size=20"], "cannot halve these images"),
        ("set", ["data.input=elsewhere"], "contradict each other"),
        ("set", ["data.region=."], "there is no folder"),
        ("set", ["stage=shade"], "train that first, then add components.color=RUN"),
    ],
)
def test_what_does_not_fit_is_said(folder, tmp_path, capsys, given, words, says):
    assert train(folder, tmp_path / "run", *words, given=given) == 2
    err = capsys.readouterr().err
    assert says in err and len(err.splitlines()) == 1, err
    assert not (tmp_path / "run").exists()


def test_flags_stand_for_keys(folder, tmp_path):
    from anojax.cli import train as command
    from anojax.cli.arguments import Parser

    parser = Parser(prog="anojax")
    command.register(parser.add_subparsers())
    flags = ("--input", "a", "--exemplars", "b", "--textures", "007")
    words = ["train", "c.yaml", "data.input=a", *flags, "--output", "run"]
    args = parser.parse_args(words)
    config = load(TrainConfig, folder / "c.yaml", args.overrides)
    data = command._with_folders(config, args).data
    assert (data.input, data.exemplars, data.textures) == ("a", "b", "007")
    assert data.size == (16, 16)


def test_masks_of_every_category(folder, tmp_path):
    """Folders of masks by category; where only one has an object, others are whole."""
    from anojax.training.data import read_data

    full = np.full((16, 16, 1), 255, np.uint8)
    for number, name in enumerate(LEVELS):
        region = full.copy()
        region[: 4 * number] = 0
        for i in range(4):
            write_image(tmp_path / "regions" / name / f"{i}.png", region)
    words = (f"data.input={folder / 'set'}", f"data.region={tmp_path / 'regions'}")
    requested = load(TrainConfig, folder / "c.yaml", words)
    data = read_data(requested, Tone())
    assert len(data.source) == 12 and data.synth.classes == 3
    for i in range(12):
        one = data.source[i]
        assert one.label == i // 4 and one.image.shape == (16, 16, 3)
        assert one.region.sum() == 16 * (16 - 4 * (i // 4))
        assert one.foreground is None
    image = np.full((16, 16, 3), 120, np.uint8)
    image[4:12, 4:12] = 20
    for i in range(4):
        write_image(tmp_path / "mixed/object/train/good" / f"{i}.png", image)
    shutil.copytree(folder / "set/part10", tmp_path / "mixed/surface")
    words = (f"data.input={tmp_path / 'mixed'}", "data.foreground=auto")
    data = read_data(load(TrainConfig, folder / "c.yaml", words), Tone())
    covered = [data.source[i].foreground.mean() for i in (0, 4)]
    assert covered[0] < 0.5 and covered[1] == 1


# A second stage, which begins with the run of the first.


@pytest.fixture(scope="module")
def shaded(folder, trained):
    words = ("stage=shade", "settings.darker=true", f"components.color={trained}")
    assert train(folder, folder / "shaded", *words, given="set/part10") == 0
    return folder / "shaded"


def test_a_later_stage_keeps_the_numbers(synth, shaded, trained, tmp_path):
    """Also where it sees one of the categories only."""
    name = "categories.json"
    assert (shaded / name).read_text() == (trained / name).read_text()
    assert synth("part2", "--checkpoint", shaded)[0] == 0
    row = rows(tmp_path / "made")[0]
    assert np.abs(inside(tmp_path / "made", row) - 121.5 / 2).max() < 3


def test_without_the_network_of_the_later_stage(synth, shaded, tmp_path):
    more = ("--checkpoint", shaded, "--set", "darker=false")
    assert synth("part2", *more)[0] == 0
    row = rows(tmp_path / "made")[0]
    assert np.abs(inside(tmp_path / "made", row) - 121.5).max() < 3


def test_the_run_of_the_earlier_stage_says_what_to_train(synth, trained, tmp_path):
    refused(
        synth("part2", "--set", "darker=true"),
        "is a run of the stage colors and holds no shade",
        "train the stage shade and give its run",
    )
    assert not (tmp_path / "made").exists()


def test_a_later_stage_refuses_what_the_first_does_not_know(folder, trained, capsys):
    shutil.copytree(folder / "set/part10", folder / "part99")
    words = ("stage=shade", "settings.darker=true", f"components.color={trained}")
    assert train(folder, folder / "no", *words, given="part99") == 2
    assert "does not know the category 'part99'" in capsys.readouterr().err
    wrong = (*words[:2], f"components.color={folder / 'set'}")
    assert train(folder, folder / "no", *wrong) == 2
    assert "not the folder of a training run" in capsys.readouterr().err
    assert not (folder / "no").exists()


def test_show_lists_the_stages(program):
    code, out, _ = program("show", "tone")
    assert code == 0
    assert "colors: tone" in out
    assert "shade: tone_shade" in out
    assert "components.color=RUN of the stage colors" in " ".join(out.split())
    assert "stages" not in program("show", "spot")[1]
    stages = json.loads(program("show", "tone", "--json")[1])["stages"]
    assert [one["stage"] for one in stages] == ["colors", "shade"]
