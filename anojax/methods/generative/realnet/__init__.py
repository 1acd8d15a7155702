"""RealNet: a diffusion model of normal images, sampled with a little too much noise."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from anojax.core import Card, Component, hp
from anojax.diffusion.guidance import classifier as towards
from anojax.diffusion.losses import hybrid_loss
from anojax.diffusion.plan import Sampler
from anojax.diffusion.samplers import initial_noise, sample
from anojax.errors import UnsupportedControl
from anojax.methods._perlin_shape import drawn_opacity
from anojax.methods.generative.realnet.classifier import RealnetClassifierTask
from anojax.methods.generative.realnet.detector import RealnetDetectorTask
from anojax.methods.generative.realnet.diffusion import (
    PREDICTION,
    SCHEDULE,
    RealnetDiffusion,
    resized,
)
from anojax.ops.blend import local_synthesis
from anojax.optim import Optimizer
from anojax.random import stream
from anojax.task import Examples, GradientTask, Metrics, Reduce, TrainState
from anojax.types import Inputs, PyTree, Synthesis

__all__ = ["Realnet", "RealnetClassifierTask", "RealnetDetectorTask", "RealnetTask"]


@dataclass(frozen=True)
class Realnet(RealnetDiffusion):
    """Blends in an image that a diffusion model of normal ones generates too roughly.

    The model takes ancestral steps whose noise has a variance greater by the `strength`
    s ("strength-controllable diffusion anomaly synthesis"): at s = 0 it generates normal
    images, the larger s, the further it goes from them. It starts from noise, not
    from the given image.

    `Controls.severity` is the opacity of what is generated, in place of the draw from
    `opacity`. s is no control but the setting `strength`, for s = 0 generates another
    normal image and not the given one: ``--set strength=0.4,0.4`` makes it 0.4
    everywhere, and every value compiles anew. `Controls.area` replaces the threshold
    of the mask by the level that gives this area, and needs the scope "local".

    With `classes` one network generates several categories, by `Inputs.label`. With
    `guidance` a classifier of noisy images (the stage "classifier" of training)
    draws every step to its category: the mean moves by the variance Sigma, without the
    factor 1 + s, times the gradient of log p. The classifier is bound to the size at
    which it was trained; `model_size` keeps it where images have another.

    With the scope "global" the generated image takes the place of the whole allowed
    area. That area is the mask then, which is no exact outline of a defect: parts of
    the generated image may look normal. Under a Perlin mask this holds too, in small.
    """

    card: ClassVar[Card] = Card(
        title="RealNet: A Feature Selection Network with Realistic Synthetic Anomaly "
        "for Anomaly Detection",
        authors="Ximiao Zhang, Min Xu, Xiuzhuang Zhou",
        venue="CVPR",
        year=2024,
        url="https://arxiv.org/abs/2403.05897",
        paradigm="generative",
        family="local",
        level="image",
        controls=("severity", "area"),
        code_url="https://github.com/cnulab/RealNet",
        code_license="MIT",
        differences=(
            "Every anomaly is generated anew; the paper draws from 10 000 stored images "
            "per category, which the public code keeps as JPEG.",
            "The strength is drawn for every image; the public code draws one for "
            "sixteen.",
            "Generated and blended values are not truncated to 8 bits.",
            "No classifier guides the steps unless `guidance` is set; the public code has "
            "both ways.",
            "Training begins from random weights, not from ImageNet's.",
            "Without classes, one network knows one category; the paper has one network "
            "for all categories of a dataset.",
            "Gradients are clipped once for all parts of an accumulated batch, of which "
            "the mean is taken; the public code clips the growing sum.",
            "Thresholds for the foreground of each category are left to the command "
            "line's --foreground.",
            "The channels that the detector looks at are chosen by extremes over whole "
            "batches; the public code takes those of each GPU's share.",
            "With stored images, 512 of them are drawn from; the paper has 10 000.",
            "The detector of the last step counts; the public code keeps the epoch that "
            "scores best on the test set.",
        ),
        unverified=("Whether the published network drops out; this one does not.",),
    )

    painter: str = hp(
        "model",
        "where the generated image comes from: the diffusion model (model), or a folder "
        "of its images, --textures (stored)",
        choices=("model", "stored"),
    )
    scope: str = hp(
        "local",
        "generate within a Perlin mask (local), or all that is allowed (global)",
        choices=("local", "global"),
    )
    opacity: tuple[float, float] = hp(
        (0.5, 1.0), "weight of the generated image in a local mask", low=0.0, high=1.0
    )
    strength: tuple[float, float] = hp(
        (0.1, 0.2),
        "range of the strength s, drawn uniformly; (0.15, 0.25) shows more; for ddim (0.01, 0.03)",
        low=0.0,
    )
    sampler: str = hp(
        "ddpm",
        "steps with noise of variance (1 + s) Sigma (ddpm), or without noise but for a "
        "variance of s Sigma (ddim)",
        choices=("ddpm", "ddim"),
    )
    steps: int = hp(20, "steps of the sampler, out of 1000", low=1, high=1000)

    def __post_init__(self):
        super().__post_init__()
        self.rule.grid(SCHEDULE)  # says what is wrong with the settings

    def components(self) -> dict[str, Component]:
        if not self.learns:
            return {}
        found = {"network": Component("run", "diffusion")}
        if self.guidance is not None:
            found["classifier"] = Component("run", "classifier")
        return found

    @property
    def learns(self) -> bool:
        return self.painter == "model"

    @property
    def needs(self) -> tuple[str, ...]:
        if self.painter == "stored":
            return ("texture",)
        return () if self.classes is None else ("label",)

    @property
    def rule(self) -> Sampler:
        """The steps of the sampler."""
        return Sampler(self.sampler, self.steps, spacing="ddim", clip=(-1.0, 1.0))

    def init(self, key: Key[Array, ""], inputs: Inputs) -> PyTree:
        if not self.learns:
            return {}
        made = {"network": self.init_network(key, inputs)}
        if self.guidance is not None:
            own = stream(key, "classifier")
            made["classifier"] = self.init_classifier(own, inputs)
        return made

    def shape(
        self, params: PyTree, key: Key[Array, ""], inputs: Inputs
    ) -> Float[Array, "h w 1"]:
        del params
        if self.scope == "local":
            return self.perlin(key, inputs)
        if inputs.controls.area is not None:
            raise UnsupportedControl(
                "realnet with the scope 'global' has no control over 'area'; leave it "
                "out, or set scope to local"
            )
        return jnp.ones((*inputs.image.shape[:2], 1), jnp.float32)

    def generate(
        self,
        params: PyTree,
        key: Key[Array, ""],
        inputs: Inputs,
        mask: Float[Array, "h w 1"],
    ) -> Synthesis:
        if self.painter == "stored":
            generated, aux = inputs.source, {}
        else:
            low, high = self.strength
            strength = low + (high - low) * jax.random.uniform(stream(key, "strength"))
            generated = self.generated(params, stream(key, "source"), inputs, strength)
            aux = {"strength": strength}
        bounds = self.opacity if self.scope == "local" else (1.0, 1.0)
        opacity = drawn_opacity(key, inputs, bounds)
        return local_synthesis(
            inputs,
            (1 - opacity) * inputs.image + opacity * generated,
            mask,
            alpha=opacity * mask,
            severity="done",
            aux={"opacity": opacity, **aux},
        )

    def generated(
        self,
        params: PyTree,
        key: Key[Array, ""],
        inputs: Inputs,
        strength: Float[Array, ""],
    ) -> Float[Array, "h w c"]:
        """An image of the diffusion model in [0, 1], of the size of the given one.

        Args:
          params: of the network, and of the classifier if there is `guidance`.
          key: of the first noise and that of all steps.
          inputs: of which size and label matter, no pixel.
          strength: s, at least 0.
        """
        h, w, c = inputs.image.shape
        network, labels = self.network(c), self.labels(inputs.label)
        shape = self.generated_shape((h, w))

        def logits(x, t):
            known = {"params": params["classifier"]}
            return self.classifier(c, shape).apply(known, x, t)

        guide = None
        if self.guidance is not None:
            self.check_guided()
            guide = towards(logits, labels, self.guidance)
        x = sample(
            lambda x, t: network.apply({"params": params["network"]}, x, t, labels),
            key,
            initial_noise(key, (*shape, c)),
            schedule=SCHEDULE,
            prediction=PREDICTION,
            sampler=self.rule,
            guide=guide,
            strength=strength,
        )
        return (resized(x[None], (h, w))[0] + 1) / 2


@dataclass(frozen=True)
class RealnetTask(GradientTask):
    """Noise and variance are predicted at all timesteps, on images in [-1, 1].

    The averaged parameters are what the Synthesizer generates with.
    """

    stage: ClassVar[str] = "diffusion"
    accepts_precomputed: ClassVar[bool] = False
    synth: Realnet
    optimizer: Optimizer = Optimizer("adam", 1e-4, clip_norm=1.0)
    ema_decay: float = hp(0.9999, "decay of the averaged parameters", low=0.0, high=1.0)
    ema_warmup: float | None = hp(
        10.0,
        "update k averages with a decay of at most (1 + k) / (this + k), for short runs "
        "(the paper: none)",
        low=1.0,
    )
    remat: bool = hp(
        False, "recompute activations in the backward pass, for less memory"
    )

    def init_networks(
        self, key: Key[Array, ""], batch: Examples
    ) -> tuple[PyTree, PyTree]:
        if self.synth.guidance is not None:
            self.synth.check_guided()
        one = Inputs(image=batch.images[0])
        return {"network": self.synth.init_network(key, one)}, {}

    def loss(
        self,
        params: PyTree,
        state: TrainState,
        key: Key[Array, ""],
        batch: Examples,
        reduce: Reduce,
    ) -> tuple[Float[Array, ""], tuple[PyTree, Metrics]]:
        keys = self.example_keys(key, batch, "diffusion")
        x0, noisy, noise, t = self.synth.noised(batch.images, keys)
        network = self.synth.network(
            x0.shape[-1], dtype=self.compute_dtype, remat=self.remat
        )
        output = network.apply(
            {"params": params["network"]},
            noisy,
            t,
            self.synth.labels(batch.inputs.label),
        )
        loss, parts = hybrid_loss(
            output, x0, noise, t, schedule=SCHEDULE, prediction=PREDICTION
        )
        return loss, (state.statistics, parts)

    def params(self, state: TrainState) -> PyTree:
        return state.averaged
