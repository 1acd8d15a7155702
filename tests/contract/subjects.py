"""What the battery runs: every method of the registry, at small sizes, with all that it
needs; and a stand-in for the kinds of method that the registry has none of yet."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from compiling import quick
from tiny import constant

import anojax
from anojax import registry
from anojax.core import Card, Synthesizer, hp
from anojax.random import stream
from anojax.types import Exemplar, Synthesis

SIZE = (64, 72, 3)
ODD = (67, 69, 1)
N = 8
ROOT = Path(__file__).parents[2]
FEATURES = 6


@dataclass(frozen=True)
class FeatureNoise(Synthesizer):
    """Noise on some features of a normal image: a method without images."""

    name = "feature_noise"
    card: ClassVar[Card] = Card(
        title="A stand-in",
        authors="Nobody",
        venue="These tests",
        year=2026,
        url="https://example.org",
        paradigm="distribution",
        family="data_driven",
        level="feature",
        needs=("features",),
    )
    sigma: float = hp(0.3, "deviation of the noise", low=0.0, high=2.0)
    share: float = hp(0.4, "of the positions that are disturbed", low=0.0, high=1.0)

    def synthesize(self, params, key, inputs):
        given, severity = inputs.features, inputs.controls.severity
        shape = (*given.shape[:2], 1)
        mask = jax.random.uniform(stream(key, "shape"), shape) < self.share
        for where in (inputs.foreground, inputs.region):
            mask = mask if where is None else mask & (where > 0)
        strength = jnp.float32(1.0) if severity is None else severity
        mask &= strength > 0
        noise = self.sigma * strength * jax.random.normal(stream(key, "n"), given.shape)
        hard = mask.astype(jnp.float32)
        return Synthesis(
            image=None,
            features=jnp.where(mask, given + noise, given),
            mask=hard,
            alpha=hard,
            label=mask.any().astype(jnp.int32),
            anomalous=mask.any(),
        )


STAND_INS = {"feature_noise": FeatureNoise}
METHODS = registry.names()
NAMES = (*METHODS, *STAND_INS)


def method(name):
    return STAND_INS[name] if name in STAND_INS else registry.get(name)


@cache
def small(name):
    """``SMALL = {...}`` of the method's test file: settings that are quick to test."""
    return method(name)(**constant(name, "SMALL", {}))


@cache
def normal_images(shape, n=N):
    """Images with an object (a bright disc) on a dark, slightly noisy background."""
    rng, (h, w, c) = np.random.default_rng(1), shape
    disc = object_of(shape)[..., 0] > 0
    base = np.where(disc, 170, 30)[None, ..., None] + np.zeros((n, 1, 1, c))
    waves = 25 * np.sin(np.arange(w) / 3)[None, None, :, None] * disc[None, ..., None]
    noisy = base + waves + rng.normal(0, 9, (n, h, w, c))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def object_of(shape):
    h, w, _ = shape
    y, x = np.mgrid[:h, :w]
    disc = np.hypot((y - h / 2) / h, (x - w / 2) / w) < 0.35
    return disc[..., None] * np.uint8(1)


@cache
def textures(shape, n=4):
    rng, (h, w, c) = np.random.default_rng(2), shape
    coarse = rng.integers(0, 256, (n, 8, 9, c)).repeat(h // 8 + 1, 1)
    fine = coarse.repeat(w // 9 + 1, 2)[:, :h, :w]
    return np.clip(fine + rng.normal(0, 20, fine.shape), 0, 255).astype(np.uint8)


@cache
def features(shape, n=N):
    """Features on the grid of the image's pixels."""
    draw = np.random.default_rng(3)
    return draw.normal(size=(n, *shape[:2], FEATURES)).astype(np.float32)


def given(name, ids, shape, **more):
    """The inputs of some examples: their images, and what the method needs."""
    ids = np.asarray(ids)
    images, needs = normal_images(shape)[ids % N], small(name).needs
    inputs = anojax.Inputs(image=images, **more)
    if method(name).card.level == "feature":
        inputs = inputs.replace(image=None)
    if "features" in needs:
        inputs = inputs.replace(features=features(shape)[ids % N])
    if "exemplar" in needs:
        where = np.broadcast_to(object_of(shape), (*images.shape[:3], 1))
        inputs = inputs.replace(exemplar=Exemplar(images[::-1], where))
    if "label" in needs:
        inputs = inputs.replace(label=np.int32(ids % 2))
    if "text" in needs:
        prompt = np.random.default_rng(4).normal(size=(N, 5, 16)).astype(np.float32)
        inputs = inputs.replace(text=prompt[ids % N])
    return inputs


def content(example):
    """What a method changes: an image in [0, 1], or features."""
    if example.features is not None:
        return np.asarray(example.features)
    image = np.asarray(example.image)
    return image if image.dtype != np.uint8 else image * np.float32(1 / 255)


@cache
def bank(name, shape):
    needs, images = small(name).needs, normal_images(shape)
    if "texture" in needs:
        return anojax.Bank(textures(shape))
    if "normal" in needs:
        object_ = np.broadcast_to(object_of(shape), (*images.shape[:3], 1))
        return anojax.Bank(images, object_)
    return None


def structure(name, shape=SIZE, full=True):
    """The shapes of one example; `full` has all that a method may be given."""

    def one(*of):
        return jax.ShapeDtypeStruct(of, np.float32)

    mask = one(*shape[:2], 1)
    inputs = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            x.shape[1:], np.float32 if x.dtype == np.uint8 else x.dtype
        ),
        given(name, range(2), shape),
    )
    inputs = inputs.replace(source=one(*shape), source_foreground=mask)
    if not full:
        return inputs
    controls = {c: one() for c in method(name).card.controls}
    inputs = inputs.replace(foreground=mask, controls=anojax.Controls(**controls))
    whole = method(name).card.level == "full_image"
    return inputs if whole else inputs.replace(region=mask)


@cache
def params(name, shape=SIZE):
    """Random parameters of methods that learn, nothing for others."""
    example = structure(name, shape, full=False)
    one = jax.tree.map(lambda x: np.full(x.shape, 0.5, x.dtype), example)
    with quick():
        found = jax.jit(small(name).init)(jax.random.key(0), one)
    if method(name).card.level != "full_image":
        return found
    # Fresh networks of zeros would make the same image of every key.
    draw = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: x + np.float32(0.1) * draw.normal(size=x.shape).astype(x.dtype), found
    )
