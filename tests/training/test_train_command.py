"""`anojax train` from a YAML file to a model, and what it refuses."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from toy_task import Stripe, StripeTask, images

from anojax import registry
from anojax import task as tasks
from anojax.cli import train
from anojax.cli.arguments import Parser
from anojax.data.files import encode_png
from anojax.errors import AnojaxError, RunError, SettingError, UnknownName
from anojax.training import checkpoint, metrics_log


def write_data_set(folder):
    """Six images to train on; two good and two striped ones to test on."""
    every = np.kron(images(10), np.ones((2, 2, 1), np.uint8))
    mask = np.zeros((16, 16, 1), np.uint8)
    mask[4:8] = 255
    for i, sample_image in enumerate(every):
        name = "train/good" if i < 6 else "test/good" if i < 8 else "test/stripe"
        if i >= 8:
            sample_image = np.where(mask > 0, 255 - sample_image, sample_image)
            write(folder / "ground_truth" / "stripe" / f"{i}_mask.png", mask)
        write(folder / name / f"{i}.png", sample_image)


def write(path, sample_image):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(sample_image))


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs the command on a folder of small gray images."""
    monkeypatch.setattr(registry, "get", lambda name: Stripe)
    monkeypatch.setattr(tasks, "get", lambda name, stage=None: StripeTask)
    write_data_set(tmp_path / "tiles")
    config = {
        "method": "toy_task",
        "data": {"input": str(tmp_path / "tiles"), "size": 16, "foreground": "none"},
        "task": {"optimizer": {"learning_rate": 0.01}},
        "length": "2 epochs",
        "batch_size": 3,
        "log_every": 2,
        "save_every": "50 %",
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))

    def run(*words, output=tmp_path / "run"):
        parser = Parser(prog="anojax")
        train.register(parser.add_subparsers())
        given = ["train", str(file), *words, "--output", str(output), "--devices", "1"]
        args = parser.parse_args(given)
        return args.run(args)

    return run


def test_trains_and_does_not_train_twice(command, tmp_path, capsys):
    assert command("--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["state"], said["step"]) == ("finished", 4)
    run = tmp_path / "run"
    rows = metrics_log.read(run / "metrics.jsonl")
    assert [row["step"] for row in rows] == [2, 4]
    _, record = checkpoint.load_variables(run / "model")
    resolved = yaml.safe_load((run / "config.yaml").read_text())
    assert record.config == resolved
    assert resolved["request"]["task"]["optimizer"]["learning_rate"] == 0.01
    assert resolved["request"]["task"]["clean_share"] == 0.5  # a default, spelled out
    assert command("length=3 epochs", "--quiet") == 0  # goes on
    assert checkpoint.steps(run / "checkpoints")[-1] == 6
    with pytest.raises(RunError, match=r"another configuration .*width: 4 -> 8"):
        command("task.width=8")


def test_images_that_changed_meanwhile_are_noticed(command, tmp_path):
    assert command("--quiet") == 0
    listed = (tmp_path / "run/inputs.sha256").read_text().splitlines()
    image = Path(listed[-1].partition("  ")[2])
    with Image.open(image) as file:
        pixels = np.asarray(file).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(image)
    with pytest.raises(RunError, match=rf"not those that .*{image.name}"):
        command("length=3 epochs", "--quiet")


def test_overrides_may_stand_between_the_options():
    parser = Parser(prog="anojax")
    train.register(parser.add_subparsers())
    words = "train c.yaml a=1 --output out b=2 --devices 1 task.c=3".split()
    args = parser.parse_args(words)
    assert args.overrides == ["a=1", "b=2", "task.c=3"]
    with pytest.raises(SettingError, match="unrecognized arguments: stray"):
        parser.parse_args([*words, "stray"])


def test_measures_on_real_defects_and_keeps_the_best(command, tmp_path, capsys):
    assert command("eval_every=2", "keep_best=aupro", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert 0 <= said["metrics"]["eval/image_auroc"] <= 1
    rows = metrics_log.read(tmp_path / "run" / "metrics.jsonl")
    scores = {r["step"]: r["eval/aupro"] for r in rows if "eval/aupro" in r}
    assert sorted(scores) == [2, 4]
    kept = checkpoint.steps(tmp_path / "run" / "checkpoints")
    assert max(scores, key=scores.get) in kept


def test_trains_on_precomputed_anomalies(command, tmp_path):
    from anojax.cli.__main__ import main

    out = tmp_path / "synthetic"
    words = ("--method", "toy_task", "--input", tmp_path / "tiles", "--size", "16")
    flags = ("--foreground", "none", "--output", out, "--devices", "1", "--quiet")
    assert main(["synth", *map(str, (*words, *flags))]) == 0
    assert command("data.input=", f"data.precomputed={out}", "--quiet") == 0
    rows = metrics_log.read(tmp_path / "run" / "metrics.jsonl")
    assert rows[-1]["step"] == 4
    with pytest.raises(SettingError, match="holds no real test split"):
        command(f"data.precomputed={out}", "eval_every=2", output=tmp_path / "other")


def test_dry_run_writes_nothing(command, tmp_path, capsys):
    assert command("--dry-run") == 0
    said = capsys.readouterr().out
    assert "4 of 3 images (2 epochs)" in said
    assert re.search(r"one update  [\d.]+ kFLOP, 81 parameters", said)
    assert not (tmp_path / "run").exists()


def test_dry_run_as_json_is_the_plan_in_numbers(command, tmp_path, capsys):
    assert command("--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["state"], plan["run"]) == ("planned", str(tmp_path / "run"))
    assert (plan["steps"], plan["batch_size"], plan["parameters"]) == (4, 3, 81)
    assert plan["flops_per_update"] > 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("word", "error", "says"),
    [
        ("task.widht=8", UnknownName, "'task.widht'; did you mean 'task.width'"),
        ("task.optimizer.rat=1", UnknownName, "unknown key 'task.optimizer.rat'"),
        ("task.width=wide", SettingError, "width is 'wide'; expected a whole number"),
        ("task.steps=8", SettingError, "task.steps is set by 'length'"),
        ("bach_size=8", UnknownName, "did you mean 'batch_size'"),
        ("length=0", SettingError, "length is 0, no step at all"),
        ("length=1e400", SettingError, "length is inf"),
        ("components=5", SettingError, "components is 5; expected key: value"),
        ("components.base=5", SettingError, "components.base is 5; expected a word"),
        ("settings=x", SettingError, "settings is 'x'; expected key: value"),
        ("data.inptu=x", UnknownName, "did you mean 'data.input'"),
        ("batch_size=0", SettingError, "batch_size is 0"),
        ("data.input=", SettingError, "names no images"),
        ("method=", SettingError, "names no method"),
        ("data.input=/nowhere", AnojaxError, "nowhere"),
        ("sample_every=2", SettingError, "toy_task's does not learn in this training"),
        ("sample_every=never", SettingError, "sample_every is 'never'; write"),
        ("keep_best=aupro", SettingError, "add eval_every"),
        ("nonsense", SettingError, "'nonsense' is no setting"),
    ],
)
def test_bad_requests(command, word, error, says):
    with pytest.raises(error, match=says):
        command(word)


def test_a_folder_with_something_else(command, tmp_path):
    with pytest.raises(RunError, match="holds no training run"):
        command(output=tmp_path / "tiles")


def test_the_sensors_depth_is_recorded(command, tmp_path, capsys):
    for path in (tmp_path / "tiles").glob("t*/*/*.png"):
        deep = (images(1)[0].astype(np.uint16) + 1) * 16 - 1  # up to 12 bits
        write(path, np.kron(deep, np.ones((2, 2, 1), np.uint16)))
    assert command("length=1 step") == 0
    assert "12 bits of 16" in capsys.readouterr().out.replace("\n", " ")
    resolved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert resolved["request"]["data"]["bits"] == 12
    assert command("length=2 steps", "--quiet") == 0  # the same configuration
