"""What the output of a network means, and how its parts turn into each other."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Array, Float, Float32

from anojax.diffusion.schedules import Schedule, alphas_cumprod
from anojax.errors import AnojaxError, SettingError

TARGETS = ("epsilon", "sample", "v_prediction")
VARIANCES = ("fixed_small", "fixed_large", "learned_range")

Images = Float[Array, "b h w c"]
Level = Float[Array, ""] | Float[Array, "b 1 1 1"]
"""A number of a noise level: one for the batch, or one per example."""


@dataclass(frozen=True)
class Prediction:
    """What a network predicts of ``x_t = alpha x_0 + sigma epsilon``."""

    target: str = "epsilon"
    """``epsilon``: the noise; ``sample``: x_0; ``v_prediction``: alpha epsilon - sigma
    x_0 (`Salimans & Ho 2022 <https://arxiv.org/abs/2202.00512>`_)."""
    variance: str = "fixed_small"
    """Of a reverse step: ``fixed_small`` β̃, ``fixed_large`` β, or ``learned_range``,
    for which the network puts out as many channels again."""

    def __post_init__(self):
        for name, value, known in (
            ("target", self.target, TARGETS),
            ("variance", self.variance, VARIANCES),
        ):
            if value not in known:
                raise SettingError(
                    f"prediction: {name} is '{value}'; choose one of {', '.join(known)}"
                )

    def split(
        self, output: Float[Array, "b h w k"], channels: int
    ) -> tuple[Images, Images | None]:
        """The target's half of an output, and the variance's, if it is learned.

        Raises:
          AnojaxError: the output has another number of channels.
        """
        learned = self.variance == "learned_range"
        expected = 2 * channels if learned else channels
        if output.shape[-1] != expected:
            raise AnojaxError(
                f"the network puts out {output.shape[-1]} channels for images of "
                f"{channels}; variance '{self.variance}' takes {expected}"
            )
        if not learned:
            return output, None
        return output[..., :channels], output[..., channels:]

    def of(self, x0: Images, noise: Images, alpha: Level, sigma: Level) -> Images:
        """What the network should put out.

        Args:
          x0: clean images.
          noise: standard normal, of their shape.
          alpha, sigma: weights of both in x_t.
        """
        if self.target == "epsilon":
            return noise
        if self.target == "sample":
            return x0
        return alpha * noise - sigma * x0

    def solve(
        self, output: Images, x: Images, alpha: Level, sigma: Level
    ) -> tuple[Images, Images]:
        """x_0 and epsilon as the network sees them in x, which they add up to.

        Args:
          output: the target's half of the network's output.
          x: images x_t.
          alpha, sigma: weights of x_0 and noise in them.
        """
        if self.target == "epsilon":
            return (x - sigma * output) / alpha, output
        if self.target == "sample":
            return output, epsilon_of(x, output, alpha, sigma)
        return alpha * x - sigma * output, alpha * output + sigma * x

    def log_variance(
        self, values: Images | None, log_small: Level, log_large: Level
    ) -> Images | Level:
        """log Σ of a reverse step.

        Args:
          values: the variance's half of the output; -1 gives β̃ and 1 gives β, and
            logarithms are interpolated between (eq. 15 of Nichol & Dhariwal 2021).
          log_small: log β̃.
          log_large: log β.
        """
        if values is None:
            return log_small if self.variance == "fixed_small" else log_large
        share = (values + 1) / 2
        return share * log_large + (1 - share) * log_small


def epsilon_of(x: Images, x0: Images, alpha: Level, sigma: Level) -> Images:
    """The noise that makes `x` of `x0`.

    Args:
      x: images x_t.
      x0: clean images.
      alpha, sigma: weights of x_0 and noise in x_t.
    """
    return (x - alpha * x0) / sigma


@lru_cache(maxsize=64)
def min_snr_weights(
    schedule: Schedule, target: str, gamma: float = 5.0
) -> Float32[np.ndarray, " t"]:
    """Weight of each timestep in the loss (`Hang et al. 2023
    <https://arxiv.org/abs/2303.09556>`_, min-SNR-γ).

    The loss on x_0 is weighted by min(SNR, γ), SNR = ᾱ / (1 - ᾱ); the weights for
    the other targets amount to the same: over SNR for epsilon, over SNR + 1 for v.
    """
    kept = alphas_cumprod(schedule)
    snr = kept / (1 - kept)
    scale = {"sample": np.ones_like(snr), "epsilon": snr, "v_prediction": snr + 1}
    weights = (np.minimum(snr, gamma) / scale[target]).astype(np.float32)
    weights.setflags(write=False)
    return weights
