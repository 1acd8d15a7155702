"""Durations, the schema of a training run, and its contradictions."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from anojax.config import from_dict, override
from anojax.errors import SettingError, UnknownName
from anojax.training.config import HARMLESS, TrainConfig, from_request
from anojax.training.durations import to_steps
from anojax.training.parallel import MeshJit, Pmap


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        (500, 500),
        ("500", 500),
        ("500 steps", 500),
        ("3 epochs", 75),
        ("0.5 epochs", 13),
        ("1 epoch", 25),
        ("10_000 examples", 1250),
        ("10 %", 100),
        ("0.05%", 1),
    ],
)
def test_durations(duration, steps):
    assert to_steps(duration, batch_size=8, images=200, total=1000) == steps


@pytest.mark.parametrize("duration", ["soon", "3 weeks", "-5", "", "1.2.3", "10 %"])
def test_durations_that_make_no_sense(duration):
    with pytest.raises(SettingError, match="length is"):
        to_steps(duration, batch_size=8, images=200, what="length")


def test_no_step_at_all():
    with pytest.raises(SettingError, match="no step at all"):
        to_steps(0, batch_size=8, images=200)


def test_a_file_becomes_a_timetable():
    config = from_dict(
        TrainConfig,
        {"method": "draem", "length": "4 epochs", "steps_per_call": 8, "log_every": 5},
    )
    timetable = config.timetable(200)
    # 100 steps, rounded up to whole calls of 8
    assert (timetable.steps, timetable.log_every, timetable.save_every) == (104, 8, 16)
    assert isinstance(config.make_strategy(), Pmap)
    mesh = override(config, ["strategy=jit", "model_devices=2"]).make_strategy()
    assert isinstance(mesh, MeshJit) and mesh.shares == 4


def test_overrides_reach_the_task():
    config = override(TrainConfig(), ["task.optimizer.learning_rate=1e-3"])
    assert config.task == {"optimizer": {"learning_rate": 1e-3}}


def test_misspelt_keys():
    with pytest.raises(UnknownName, match="'bach_size'; did you mean 'batch_size'"):
        from_dict(TrainConfig, {"bach_size": 8})
    with pytest.raises(UnknownName, match=r"'data.sise'; did you mean 'data.size'"):
        from_dict(TrainConfig, {"data": {"sise": 8}})


def test_contradictions():
    with pytest.raises(SettingError, match="batch_size is 0"):
        TrainConfig(batch_size=0)
    with pytest.raises(SettingError, match="use strategy: jit"):
        TrainConfig(model_devices=2)
    with pytest.raises(SettingError, match="not both"):
        TrainConfig(resume="a", init_from="b")


def test_harmless_keys_exist():
    assert set(HARMLESS) <= {f.name for f in dataclasses.fields(TrainConfig)}


CONFIGS = Path(__file__).parents[2] / "configs"


def test_the_example_of_the_readme_is_a_configuration():
    (block,) = re.findall(
        r"```yaml\n(.*?)```", (CONFIGS / "README.md").read_text(), re.S
    )
    config = from_dict(TrainConfig, yaml.safe_load(block))
    assert config.task["optimizer"]["learning_rate"] == 1e-4
    assert config.timetable(200).steps == 700 * 25


@pytest.mark.parametrize(
    "path", sorted(CONFIGS.glob("train/*.yaml")), ids=lambda p: p.stem
)
def test_configurations_load_and_say_how_to_run_them(path):
    text = path.read_text()
    config = from_dict(TrainConfig, yaml.safe_load(text))
    # METHOD.yaml is the paper's run, METHOD_<budget>.yaml a smaller one.
    assert path.stem == config.method or path.stem.startswith(f"{config.method}_")
    head = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert f"anojax train configs/train/{path.name}" in head


def test_a_run_of_an_earlier_version_is_read_by_its_old_names():
    old = {"method": "draem", "data": {"ready": "/runs/old"}, "parts": {"a": "b"}}
    made = from_request(old)
    assert made.data.precomputed == "/runs/old" and made.components == {"a": "b"}
