"""A method of several networks: each from the run that trained it, or from a file."""

import sys
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from dots import CARD, source

from anojax import registry
from anojax.core import Card, Component, Synthesizer, hp
from anojax.errors import CheckpointError, DataError, SettingError
from anojax.ops.blend import local_synthesis
from anojax.optim import Optimizer
from anojax.synthesis.config import SynthConfig
from anojax.synthesis.learned import load_parameters, with_parameters
from anojax.task import GradientTask
from anojax.training.parallel import Pmap
from anojax.training.run import train
from anojax.training.start import Beginning
from anojax.types import Inputs

NAME = __name__.rsplit(".", 1)[-1]


@dataclass(frozen=True)
class Twice(Synthesizer):
    """The product of what two stages have learned, and of a backbone if there is one."""

    card: ClassVar[Card] = Card(**CARD)
    second: bool = hp(True, "use the second network")
    base: bool = hp(False, "use a pretrained network")

    def components(self):
        found = {"first": Component("run", "first")}
        if self.second:
            found["second"] = Component("run", "second")
        if self.base:
            found["base"] = Component("backbone", "resnet18")
        return found

    def init(self, key, inputs):
        return {name: {"level": jax.random.uniform(key)} for name in self.components()}

    def synthesize(self, params, key, inputs):
        level = jnp.prod(jnp.stack([one["level"] for one in params.values()]))
        everywhere = jnp.ones((4, 4, 1))
        return local_synthesis(inputs, level * everywhere, everywhere)


@dataclass(frozen=True)
class Weighted(Twice):
    """Pretrained, and in need of no training."""

    def components(self):
        return {"base": Component("backbone", "resnet18")}


@dataclass(frozen=True)
class FirstTask(GradientTask):
    stage: ClassVar[str] = "first"
    synth: Twice
    optimizer: Optimizer = Optimizer("sgd", 0.0)
    level: float = 0.5

    def init_networks(self, key, batch):
        return {self.stage: {"level": jnp.float32(self.level)}}, {}

    def loss(self, params, state, key, batch, reduce):
        return params[self.stage]["level"] * 1.0, (state.statistics, {})

    def params(self, state):
        return state.params


@dataclass(frozen=True)
class SecondTask(FirstTask):
    """Its run keeps a copy of the first network, as it was when this stage began."""

    stage: ClassVar[str] = "second"

    def components(self):
        return {"first": Component("run", "first")}

    def init_frozen(self, key, batch):
        return {"first": {"first": {"level": jnp.zeros(())}}}

    def params(self, state):
        return {**state.frozen["first"], **state.params}


@pytest.fixture(autouse=True)
def method(monkeypatch):
    """This module is a method of the registry."""
    monkeypatch.setitem(sys.modules, Twice.__module__, sys.modules[__name__])
    monkeypatch.setattr(registry, "get", lambda name: Twice)


def trained(folder, task, **components):
    train(
        task,
        source(4),
        batch_size=4,
        folder=folder,
        strategy=Pmap(jax.devices()[:1]),
        beginning=Beginning(components=components or None),
        config={"hash": task.stage},
    )
    settings = {"second": task.stage == "second"}
    request = {"method": NAME, "stage": task.stage, "data": {}, "task": {}}
    text = yaml.safe_dump({"request": request | {"settings": settings}})
    (folder / "config.yaml").write_text(text)
    return str(folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    first = trained(folder / "first", FirstTask(Twice(), steps=1, level=0.5))
    old = {"first": {"level": np.float32(0.125)}}
    second = SecondTask(Twice(), steps=1, level=0.25)
    return first, trained(folder / "second", second, first=old)


def loaded(*where, **options):
    request = SynthConfig(
        methods=(NAME,), checkpoint=",".join(where) or None, **options
    )
    config, parameters = load_parameters(request)
    synth = registry.get(NAME)(**config.settings.get(NAME, {}))
    made = with_parameters(synth, parameters, (4, 4, 1))
    params = made.init(jax.random.key(0), Inputs(image=np.zeros((4, 4, 1), np.float32)))
    return {n: float(one["level"]) for n, one in params.items()}, parameters


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_each_component_comes_from_the_run_of_its_stage(runs, order):
    found, parameters = loaded(*(runs[i] for i in order))
    assert found == {"first": 0.5, "second": 0.25}
    assert parameters.where == ",".join(runs)
    assert [one["config"] for one in parameters.facts["more"]] == ["second"]


def test_one_run_may_hold_everything(runs):
    found, parameters = loaded(runs[1])
    assert found == {"first": 0.125, "second": 0.25}
    # As runs of synthesis have noted it so far.
    assert set(parameters.facts) == {"method", "step", "config", "sha256"}


def test_settings_leave_a_network_out(runs):
    assert loaded(runs[0])[0] == {"first": 0.5}
    with pytest.raises(
        CheckpointError, match="holds no second.*train the stage second"
    ):
        loaded(runs[0], settings={NAME: {"second": True}})


def test_two_runs_of_a_stage(runs):
    with pytest.raises(SettingError, match="are of the same stage, first"):
        loaded(runs[0], runs[0])


def test_a_pretrained_component_beside_runs(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("ANOJAX_WEIGHTS", str(tmp_path))
    base = {NAME: {"base": True}}
    found, parameters = loaded(*runs, settings=base, components={"base": "random"})
    assert set(found) == {"first", "second", "base"} and found["first"] == 0.5
    assert "random weights" in parameters.facts["components"]["base"]
    with pytest.raises(DataError, match="resnet18 are missing"):
        loaded(*runs, settings=base)
    with pytest.raises(SettingError, match=r"no pretrained component .* has: none"):
        loaded(*runs, components={"base": "random"})


def test_pretrained_without_training(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "get", lambda name: Weighted)
    monkeypatch.setenv("ANOJAX_WEIGHTS", str(tmp_path))
    found, parameters = loaded(components={"base": "random"})
    assert set(found) == {"base"} and parameters.where is None
    with pytest.raises(DataError, match="resnet18 are missing.*components.base=random"):
        loaded()
