"""SPR: noise that a network which knows normal images can take back, or cannot."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from anojax.core import Card, Synthesizer, hp
from anojax.detector import Detector
from anojax.nn.init import init_network
from anojax.nn.resize import resize_bilinear
from anojax.nn.score_unet import ScoreUNet
from anojax.nn.smoothing import mean_filter
from anojax.ops.blend import allowed, local_synthesis
from anojax.optim import Optimizer
from anojax.random import stream
from anojax.task import Examples, GradientTask, Metrics, Reduce, TrainState
from anojax.types import Inputs, PyTree, Synthesis


@dataclass(frozen=True)
class Spr(Synthesizer):
    """Adds the faint noise by which a normal image is probed.

    The result is a probe, not a defect: every allowed pixel is perturbed, by about four
    gray levels of 255, and the mask is the whole allowed area. What makes a pixel
    anomalous is that a trained network fails to take the noise back (`SprDetector`);
    the perturbation itself is the same for all and learns nothing.

    `Controls.severity` scales the standard deviation; 1 is the method's own.
    """

    card: ClassVar[Card] = Card(
        title="Anomaly Detection using Score-based Perturbation Resilience",
        authors="Woosang Shin, Jonghyeon Lee, Taehan Lee, Sangmoon Lee, Jong Pil Yun",
        venue="ICCV",
        year=2023,
        url="https://openaccess.thecvf.com/content/ICCV2023/html/Shin_Anomaly_Detection_"
        "using_Score-based_Perturbation_Resilience_ICCV_2023_paper.html",
        paradigm="distribution",
        family="prior",
        level="image",
        controls=("severity",),
        mask="area",
        purpose="probe",
        code_url="https://github.com/Lee-JongHyeon/"
        "Anomaly-Detection-using-Score-based-Perturbation-Resilience",
        code_license="Apache-2.0",
        fidelity="formulas",
        differences=(
            "The perturbed image is a probe, not a defect: its mask is the whole "
            "allowed area, and the paper trains no detector on such masks.",
            "As an image the perturbation is clipped to [0, 1]; network and detector "
            "work on unclipped values, as published.",
            "Images are reduced by a bilinear filter with antialiasing, not Lanczos.",
            "The detector draws the same noise for every image, so that a score is no "
            "matter of chance.",
            "A region or foreground that bounds the noise is an addition.",
        ),
        unverified=(
            "Whether time, draws, size and filter of the public code are the paper's.",
        ),
    )

    time: float = hp(
        1e-3, "time of the diffusion at which images are probed", low=1e-5, high=1.0
    )
    sigma: float = hp(
        25.0, "base of the noise's standard deviation, which is a power of it", low=1.01
    )

    def synthesize(
        self, params: PyTree, key: Key[Array, ""], inputs: Inputs
    ) -> Synthesis:
        del params
        requested, where = inputs.controls.severity, allowed(inputs)
        severity = (
            jnp.float32(1) if requested is None else jnp.asarray(requested, jnp.float32)
        )
        # Half: the network's images lie in [-1, 1].
        std = 0.5 * severity * noise_std(self.time, self.sigma)
        noise = jax.random.normal(stream(key, "source"), inputs.image.shape)
        mask = jnp.ones((*noise.shape[:2], 1)) if where is None else where
        return local_synthesis(
            inputs, inputs.image + std * noise, mask, severity="done", aux={"std": std}
        )


def noise_std(time: float | Array, sigma: float) -> Array:
    """Standard deviation of the noise at `time` in (0, 1], for images in [-1, 1].

    Of the variance-exploding process: ``sqrt((sigma^(2 time) - 1) / (2 ln sigma))``,
    written so that small times keep their digits.
    """
    twice_log = np.float32(2 * np.log(sigma))
    return jnp.sqrt(jnp.expm1(twice_log * jnp.asarray(time, jnp.float32)) / twice_log)


def residual(
    network: Callable[[Array], Array],
    image: Float[Array, "*b"],
    noise: Float[Array, "*b"],
    std: float | Array,
) -> Float[Array, "*b"]:
    """What is left of the perturbation when the network has taken it back.

    That is ``z + std^2 score(z) - image`` for ``z = image + std noise``, without
    the cancellation.

    Args:
      network: gives ``std * score`` of a perturbed image.
      image: any shape.
      noise: from the unit normal distribution.
      std: of the perturbation.
    """
    return std * (network(image + std * noise) + noise)


def heat_map(
    errors: Float[Array, "h w"], *, side_px: int, radius_px: int
) -> Float[Array, "i j"]:
    """Errors at a fixed scale (shorter side `side_px`), averaged over squares.

    Beyond the border lie zeros, so that the values there are smaller.
    """
    h, w = errors.shape
    shape = tuple(round(n * side_px / min(h, w)) for n in (h, w))
    found = resize_bilinear(errors[None, ..., None], shape)
    return mean_filter(found, 2 * radius_px + 1)[0, ..., 0]


@dataclass(frozen=True)
class SprDetector(Detector):
    """Where noise that was added to an image is not taken back.

    The errors are brought to a shorter side of `side_px` before they are smoothed, and
    then to the size of the image: the smoothed square covers the same part of the
    image at any size. The score is the maximum before that last step, as published.
    """

    synth: Spr = Spr()
    width: int = 64
    draws: int = 3
    side_px: int = 256
    smoothing_radius_px: int = 15
    """Of an image whose shorter side is `side_px`."""
    seed: int = 0
    """Of the noise, which is the same for all images."""

    def score(
        self, variables: PyTree, image: Float[Array, "h w c"]
    ) -> tuple[Float[Array, "h w"], Float[Array, ""]]:
        found = heat_map(
            self.errors(variables, image),
            side_px=self.side_px,
            radius_px=self.smoothing_radius_px,
        )
        whole = resize_bilinear(found[None, ..., None], image.shape[:2])[0, ..., 0]
        return whole, jnp.max(found)

    def errors(
        self, variables: PyTree, image: Float[Array, "h w c"]
    ) -> Float[Array, "h w"]:
        """Mean square of the residual over channels and draws, at every pixel."""
        network = ScoreUNet(channels=image.shape[-1], width=self.width)
        time = jnp.full((1,), self.synth.time, jnp.float32)
        std = noise_std(self.synth.time, self.synth.sigma)

        def predict(clean):
            return network.apply(
                {"params": variables["params"]},
                clean[None],
                time,
                variables["statistics"]["frequencies"],
            )[0]

        def square(noise):
            left = residual(predict, _signed(image), noise, std)
            return jnp.mean(jnp.square(left), -1)

        # One draw after the other: all at once would take as many times the memory.
        return jnp.mean(lax.map(square, self.noise(image.shape)), axis=0)

    def noise(self, shape: tuple[int, int, int]) -> Float[Array, "r h w c"]:
        """The unit noise of all draws for images of that shape."""
        return jax.random.normal(jax.random.key(self.seed), (self.draws, *shape))


@dataclass(frozen=True)
class SprTask(GradientTask):
    """Denoising score matching at all times, on images in [-1, 1].

    The loss of an example is summed over its pixels and channels, as published: a
    silent network has about as much as there are of them.
    """

    # Normal images and noise are all it sees.
    accepts_precomputed: ClassVar[bool] = False
    synth: Spr
    optimizer: Optimizer = Optimizer(
        "adamw",
        1e-4,
        schedule="drops",
        drops=((1 / 3, 0.1), (2 / 3, 0.1)),
        weight_decay=1e-3,
    )
    ema_decay: float = hp(0.9999, "decay of the averaged parameters", low=0.0, high=1.0)
    ema_warmup: float | None = hp(
        10.0, "update k averages with a decay of at most (1 + k) / (this + k)", low=1.0
    )
    width: int = hp(64, "channels of the first block, an even number", low=2, high=1024)
    times: tuple[float, float] = hp(
        (1e-5, 1.0),
        "times of the diffusion in training, drawn uniformly for every image",
        low=1e-5,
        high=1.0,
    )
    draws: int = hp(3, "perturbations that the detector averages over", low=1)
    smoothing_radius_px: int = hp(
        15, "the map is averaged over squares that reach this far, of 256", low=0
    )

    def init_networks(
        self, key: Key[Array, ""], batch: Examples
    ) -> tuple[PyTree, PyTree]:
        own, fixed = jax.random.split(key)
        frequencies = 30 * jax.random.normal(fixed, (2 * self.width,))
        images = batch.images[:1]
        made = init_network(
            self._network(batch), own, images, jnp.ones((1,)), frequencies
        )
        # Statistics: no gradient moves the frequencies, and nothing decays them.
        return made["params"], {"frequencies": frequencies}

    def loss(
        self,
        params: PyTree,
        state: TrainState,
        key: Key[Array, ""],
        batch: Examples,
        reduce: Reduce,
    ) -> tuple[Float[Array, ""], tuple[PyTree, Metrics]]:
        images = _signed(batch.images)
        time, noise = self.perturbation(key, batch)
        std = noise_std(time, self.synth.sigma)[:, None, None, None]
        found = self._network(batch).apply(
            {"params": params},
            images + std * noise,
            time,
            state.statistics["frequencies"],
        )
        squares = jnp.square(found + noise)
        metrics = {"mean_square": jnp.mean(squares)}
        return jnp.mean(jnp.sum(squares, (1, 2, 3))), (state.statistics, metrics)

    def perturbation(
        self, key: Key[Array, ""], batch: Examples
    ) -> tuple[Float[Array, " b"], Float[Array, "b h w c"]]:
        """Time and unit noise of every example."""
        low, high = self.times
        shape = batch.inputs.image.shape[1:]
        time = jax.vmap(lambda k: jax.random.uniform(k, (), minval=low, maxval=high))
        noise = jax.vmap(lambda k: jax.random.normal(k, shape))
        return (
            time(self.example_keys(key, batch, "time")),
            noise(self.example_keys(key, batch, "noise")),
        )

    def detector(self) -> SprDetector:
        return SprDetector(
            self.synth,
            self.width,
            self.draws,
            smoothing_radius_px=self.smoothing_radius_px,
        )

    def _network(self, batch: Examples) -> ScoreUNet:
        return ScoreUNet(
            channels=batch.inputs.image.shape[-1],
            width=self.width,
            dtype=self.compute_dtype,
        )


def _signed(values):
    """From [0, 1] to the network's [-1, 1]."""
    return 2 * values - 1
