"""Methods that change features: what they extract, what can be shown of them."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dots import CARD, source

import anojax
from anojax import registry
from anojax.core import Card, Component, Synthesizer
from anojax.errors import MissingInput, UnsupportedInput
from anojax.evaluation.speed import measure
from anojax.optim import Optimizer
from anojax.random import stream
from anojax.synthesis.config import SynthConfig
from anojax.synthesis.prepare import make_methods
from anojax.task import Examples, GradientTask
from anojax.training.parallel import Pmap
from anojax.training.run import train
from anojax.training.start import Beginning
from anojax.types import Inputs, Synthesis

FEATURE = CARD | {"paradigm": "distribution", "family": "data_driven"}


@dataclass(frozen=True)
class Noise(Synthesizer):
    """Adds noise to features, which are averages of 2 x 2 pixels times a weight."""

    card: ClassVar[Card] = Card(
        **FEATURE | {"level": "feature", "needs": ("features",)}
    )

    def components(self):
        return {"backbone": Component("backbone", "resnet18")}

    def init(self, key, inputs):
        return {"backbone": {"weight": jax.random.uniform(key, (3,)) + 0.5}}

    def extract(self, params, image):
        h, w, _ = image.shape
        pooled = image.reshape(h // 2, 2, w // 2, 2).mean((1, 3))
        return pooled[..., None] * params["backbone"]["weight"][None, None]

    def synthesize(self, params, key, inputs):
        found = inputs.features
        noise = 0.1 * jax.random.normal(stream(key, "source"), found.shape)
        everywhere = jnp.ones((*found.shape[:2], 1))
        return Synthesis(
            image=None,
            mask=everywhere,
            alpha=everywhere,
            label=jnp.int32(1),
            anomalous=jnp.bool_(True),
            features=found + noise,
        )


@dataclass(frozen=True)
class Decoded(Noise):
    card: ClassVar[Card] = Card(
        **FEATURE | {"level": "feature", "needs": ("features",), "decodes": True}
    )


@dataclass(frozen=True)
class Given(Noise):
    """Without a network of its own: features must be given."""

    def extract(self, params, image):
        return Synthesizer.extract(self, params, image)

    _extracts = False


@dataclass(frozen=True)
class NoiseTask(GradientTask):
    """Tells features from changed ones by their distance to a learned center."""

    synth: Noise
    optimizer: Optimizer = Optimizer("sgd", 0.1)

    def components(self):
        return self.synth.components()

    def init_networks(self, key, batch):
        return {"center": jnp.zeros((3,))}, {}

    def init_frozen(self, key, batch):
        return self.synth.init(key, Inputs(image=batch.images[0]))

    def loss(self, params, state, key, batch, reduce):
        extract = jax.vmap(lambda x: self.synth.extract(state.frozen, x))
        known = batch.inputs.replace(features=extract(batch.images))
        batch = batch.replace(inputs=known)
        out = self.draw(key, batch, clean_share=0.5, params=state.frozen)
        near = jnp.mean((out.features - params["center"][None, None, None]) ** 2)
        return near, (state.statistics, {"clean": jnp.mean(1.0 - out.mask)})


IMAGES = source(6).inputs.image


def apply(params=None, **inputs):
    synth = Noise()
    params = synth.init(jax.random.key(1), Inputs()) if params is None else params
    return synth.apply(params, jax.random.key(0), Inputs(**inputs))


def test_features_are_extracted_or_given():
    image = IMAGES[0] * np.float32(1 / 255)
    params = Noise().init(jax.random.key(1), Inputs())
    from_image = apply(image=image)
    given = apply(features=Noise().extract(params, image))
    np.testing.assert_array_equal(from_image.features, given.features)
    assert from_image.image is None and from_image.mask.shape == (2, 2, 1)
    with pytest.raises(MissingInput, match="needs features of the image"):
        apply()
    with pytest.raises(MissingInput, match="needs features of the image"):
        Given().apply(params, jax.random.key(0), Inputs(image=image))


def test_batches_have_no_image():
    params = Noise().init(jax.random.key(1), Inputs())
    run = anojax.batch(Noise(), uint8=True, devices=jax.devices()[:2])
    out = run(params, 3, range(6), Inputs(image=IMAGES))
    assert out.image is None and out.features.dtype == jnp.float32
    assert out.mask.dtype == jnp.uint8 and out.mask.shape == (6, 2, 2, 1)
    one = run(params, 3, [4], Inputs(image=IMAGES[4:5]))
    np.testing.assert_array_equal(one.features[0], out.features[4])


def test_its_speed_is_measured():
    row = measure(
        Noise(),
        np.resize(IMAGES, (4, 16, 16, 1)),
        None,
        batch_sizes=(4,),
        seconds=0.01,
        bandwidth=1e9,
        devices=jax.devices()[:1],
    )
    assert row.images_per_s > 0
    assert row.border_bytes > 16 * 16 + 8 * 8 * 3 * 4  # an image in, features out


def test_what_is_no_image_is_neither_written_nor_shown(monkeypatch):
    assert not Noise().shows and Decoded().shows
    Decoded().check_shown()
    words = "changes features, which are no image .* methods that make images: .*draem"
    with pytest.raises(UnsupportedInput, match=words):
        Noise().check_shown()
    monkeypatch.setattr("anojax.builders.registry.get", lambda name: Noise)
    with pytest.raises(UnsupportedInput, match="no image to show or to write"):
        make_methods(SynthConfig(methods=("noise",)))


def test_who_needs_weights_from_elsewhere_is_not_ready_at_once(monkeypatch):
    assert not Noise().learns and set(Noise().pretrained) == {"backbone"}
    found = {"noise": Noise, "decoded": Decoded, "draem": registry.get("draem")}
    monkeypatch.setattr(registry, "names", lambda: tuple(found))
    monkeypatch.setattr(registry, "get", found.__getitem__)
    assert registry.untrained() == ("draem",)
    assert registry.find(shows=True) == ("decoded", "draem")


def test_a_task_draws_features_and_keeps_a_share_clean():
    task = NoiseTask(Noise(), steps=2)
    outcome = train(
        task,
        source(6),
        batch_size=6,
        strategy=Pmap(jax.devices()[:2]),
        beginning=Beginning(components={"backbone": None}),
    )
    assert 0 < outcome.metrics["clean"] < 1
    batch = Examples(Inputs(image=IMAGES), np.arange(6, dtype=np.uint32))
    with pytest.raises(MissingInput, match="extract them before the draw"):
        task.draw(
            jax.random.key(0), batch, clean_share=0.5, params=outcome.state.frozen
        )
