"""A method, its network and its task, small enough to compile in a second."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from anojax.core import Card, Synthesizer, hp
from anojax.data.stream import InMemory
from anojax.detector import Detector
from anojax.ops.blend import local_synthesis
from anojax.random import stream
from anojax.task import Examples, GradientTask
from anojax.training.checkpoint import Keep
from anojax.training.loop import Watch
from anojax.training.start import Beginning
from anojax.types import Inputs

SHAPE = (8, 8, 1)


@dataclass(frozen=True)
class Stripe(Synthesizer):
    """Inverts two rows."""

    card: ClassVar[Card] = Card(
        title="Stripe",
        authors="-",
        venue="-",
        year=2026,
        url="-",
        paradigm="handcrafted",
        family="self_contained",
        level="image",
    )

    def synthesize(self, params, key, inputs):
        height, width, _ = inputs.image.shape
        first = jax.random.randint(stream(key, "shape"), (), 0, height - 2)
        row = jnp.arange(height)[:, None, None]
        inside = (row >= first) & (row < first + 2)
        mask = jnp.broadcast_to(inside, (height, width, 1)).astype(jnp.float32)
        return local_synthesis(inputs, 1 - inputs.image, mask)


class Net(nn.Module):
    width: int
    dtype: object
    axis: str | None

    @nn.compact
    def __call__(self, x, train):
        plain = nn.initializers.uniform(0.5)
        options = {"kernel_init": plain, "dtype": self.dtype}
        x = nn.Conv(self.width, (3, 3), use_bias=False, **options)(x)
        x = nn.BatchNorm(  # a bias before it would learn from rounding alone
            use_running_average=not train,
            momentum=0.9,
            axis_name=self.axis,
            dtype=jnp.float32,
        )(x.astype(jnp.float32))
        return nn.Conv(1, (3, 3), **options)(nn.relu(x)).astype(jnp.float32)


@dataclass(frozen=True)
class StripeDetector(Detector):
    width: int = 4

    def calibrate(self, variables, images):
        means = [p.mean(axis=(1, 2, 3)) / 255 for p in images]
        level = np.concatenate(means).mean(dtype=np.float32)
        return {**variables, "density": {"level": level}}

    def score(self, variables, image):
        net = Net(self.width, jnp.float32, None)
        weights = {
            "params": variables["params"],
            "batch_stats": variables["statistics"],
        }
        found = nn.sigmoid(net.apply(weights, image[None], False))[0, :, :, 0]
        return found, found.max() - variables["density"]["level"]


@dataclass(frozen=True)
class StripeTask(GradientTask):
    width: int = hp(4, "channels", low=1)
    clean_share: float = hp(0.5, "share of clean examples", low=0.0, high=1.0)
    scale: float = hp(1.0, "factor of the loss; huge ones break it")

    def init_networks(self, key, batch):
        net = Net(self.width, self.compute_dtype, None)
        made = net.init(key, batch.images[:1], False)
        return made["params"], made["batch_stats"]

    def loss(self, params, state, key, batch, reduce):
        out = self.draw(key, batch, clean_share=self.clean_share)
        net = Net(self.width, self.compute_dtype, reduce.axis)
        logits, new = net.apply(
            {"params": params, "batch_stats": state.statistics},
            out.image,
            True,
            mutable=["batch_stats"],
        )
        wrong = jnp.mean((nn.sigmoid(logits) - out.mask) ** 2)
        anomalous = jnp.mean(out.anomalous.astype(jnp.float32))
        metrics = {"anomalous": anomalous}
        return wrong * self.scale, (new["batch_stats"], metrics)

    def detector(self):
        return StripeDetector(self.width)


def grouped(options: dict) -> dict:
    """Arguments of `train`, with those of its groups by their own names."""
    kinds = {"beginning": Beginning, "keep": Keep, "watch": Watch}
    left = dict(options)
    for name, kind in kinds.items():
        own = [field.name for field in dataclasses.fields(kind)]
        if found := {key: left.pop(key) for key in own if key in left}:
            left[name] = kind(**found)
    return left


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, (count, *SHAPE), np.uint8)


def source(count: int = 20) -> InMemory:
    return InMemory(Inputs(image=images(count)))


def examples(count: int = 16) -> Examples:
    return Examples(Inputs(image=images(count)), np.arange(count, dtype=np.uint32))
