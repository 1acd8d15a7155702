"""Training of the classifier that guides RealNet's diffusion model."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from anojax.core import hp
from anojax.errors import SettingError
from anojax.methods.generative.realnet.diffusion import RealnetDiffusion
from anojax.optim import Optimizer
from anojax.random import stream
from anojax.task import Component, Examples, GradientTask, Metrics, Reduce, TrainState
from anojax.types import Inputs, PyTree


@dataclass(frozen=True)
class RealnetClassifierTask(GradientTask):
    """The category is told from noised images, at all timesteps.

    The diffusion network comes from the run of its own training and stays as it is; the
    Synthesizer gets both, so that this run is what guided synthesis starts from.
    """

    stage: ClassVar[str] = "classifier"
    accepts_precomputed: ClassVar[bool] = False
    synth: RealnetDiffusion
    optimizer: Optimizer = Optimizer("adam", 1e-4, clip_norm=1.0)
    remat: bool = hp(
        False, "recompute activations in the backward pass, for less memory"
    )

    def components(self) -> dict[str, Component]:
        return {"network": Component("run", "diffusion")}

    def init_networks(
        self, key: Key[Array, ""], batch: Examples
    ) -> tuple[PyTree, PyTree]:
        if self.synth.guidance is None:
            raise SettingError(
                "realnet's stage classifier trains what guides synthesis, but "
                "settings.guidance is none; give its weight (the paper: 1)"
            )
        one = Inputs(image=batch.images[0])
        classifier = self.synth.init_classifier(stream(key, "classifier"), one)
        return {"classifier": classifier}, {}

    def init_frozen(self, key: Key[Array, ""], batch: Examples) -> dict[str, PyTree]:
        one = Inputs(image=batch.images[0])
        # What another run learned takes its place.
        network = self.synth.init_network(stream(key, "network"), one)
        return {"network": {"network": network}}

    def loss(
        self,
        params: PyTree,
        state: TrainState,
        key: Key[Array, ""],
        batch: Examples,
        reduce: Reduce,
    ) -> tuple[Float[Array, ""], tuple[PyTree, Metrics]]:
        keys = self.example_keys(key, batch, "classifier")
        _, noisy, _, t = self.synth.noised(batch.images, keys)
        _, h, w, c = noisy.shape
        classifier = self.synth.classifier(
            c, (h, w), dtype=self.compute_dtype, remat=self.remat
        )
        logits = classifier.apply({"params": params["classifier"]}, noisy, t)
        labels = self.synth.labels(batch.inputs.label)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        right = jnp.mean((logits.argmax(-1) == labels).astype(jnp.float32))
        return loss, (state.statistics, {"accuracy": right})

    def params(self, state: TrainState) -> PyTree:
        return {**state.frozen["network"], **state.averaged}
