"""Training losses: means over the examples of a batch.

`Nichol & Dhariwal 2021 <https://arxiv.org/abs/2102.09672>`_, with their released code
(guided-diffusion, "ADM") where the paper is silent.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import ndtr
from jaxtyping import Array, Float, Int, Key

from anojax.diffusion.prediction import Images, Prediction, min_snr_weights
from anojax.diffusion.schedules import Schedule, add_noise, gather, tables
from anojax.errors import AnojaxError
from anojax.random import stream

Scalar = Float[Array, ""]


def draw(
    keys: Key[Array, " b"], x0: Images, *, schedule: Schedule
) -> tuple[Int[Array, " b"], Images]:
    """Timesteps, uniform over all of them, and standard normal noise.

    What an example gets depends on its own key alone.
    """

    def one(key):
        t = jax.random.randint(stream(key, "timestep"), (), 0, schedule.steps)
        return t, jax.random.normal(stream(key, "noise"), x0.shape[1:], jnp.float32)

    return jax.vmap(one)(keys)


def simple_loss(
    output: Float[Array, "b h w k"],
    x0: Images,
    noise: Images,
    t: Int[Array, " b"],
    *,
    schedule: Schedule,
    prediction: Prediction,
    min_snr_gamma: float | None = None,
) -> Scalar:
    """Mean squared error of the prediction (eq. 14 of Ho et al. 2020).

    Args:
      output: of the network at ``add_noise(x0, noise, t)``.
      x0: the clean images.
      noise: what was added.
      t: timestep of each example.
      schedule: of the noise.
      prediction: the meaning of `output`; a variance's half is left out.
      min_snr_gamma: γ of `min_snr_weights`; ``None`` weights all timesteps alike.

    Example:
      >>> x0, noise = jnp.zeros((1, 4, 4, 1)), jnp.ones((1, 4, 4, 1))
      >>> how = dict(schedule=Schedule(), prediction=Prediction())
      >>> float(simple_loss(noise, x0, noise, jnp.asarray([3]), **how))
      0.0
    """
    known = tables(schedule)
    mean, _ = prediction.split(output.astype(jnp.float32), x0.shape[-1])
    target = prediction.of(x0, noise, gather(known.alpha, t), gather(known.sigma, t))
    error = jnp.mean(jnp.square(target - mean), axis=(1, 2, 3))
    if min_snr_gamma is not None:
        weights = min_snr_weights(schedule, prediction.target, min_snr_gamma)
        error = error * jnp.asarray(weights)[t]
    return jnp.mean(error)


def hybrid_loss(
    output: Float[Array, "b h w k"],
    x0: Images,
    noise: Images,
    t: Int[Array, " b"],
    *,
    schedule: Schedule,
    prediction: Prediction,
) -> tuple[Scalar, dict[str, Scalar]]:
    """The simple loss plus the variational bound, for a learned variance (eq. 16).

    Only the variance's half of `output` learns from the bound. Arguments are those of
    `simple_loss`. The bound counts T / 1000, as in ADM: once for 1000 timesteps.

    Args:
      output: of the network: the target's channels, then the variance's.
      x0: clean images.
      noise: standard normal, of their shape.
      t: a timestep for each.
      schedule: of the noise.
      prediction: the meaning of `output`.

    Returns:
      The loss, and its parts ``mse`` and ``vb``, the latter in bits per dimension.

    Raises:
      AnojaxError: the variance is not learned as ``learned_range``.
    """
    if prediction.variance != "learned_range":
        raise AnojaxError(
            f"variance is '{prediction.variance}'; the bound would train nothing: use "
            "simple_loss, or learned_range"
        )
    mse = simple_loss(output, x0, noise, t, schedule=schedule, prediction=prediction)
    mean, values = prediction.split(output.astype(jnp.float32), x0.shape[-1])
    assert values is not None  # learned_range has them
    frozen = jnp.concatenate([lax.stop_gradient(mean), values], axis=-1)
    x = add_noise(x0, noise, t, schedule=schedule)
    vb = jnp.mean(
        variational_bound(frozen, x0, x, t, schedule=schedule, prediction=prediction)
    )
    return mse + schedule.steps / 1000 * vb, {"mse": mse, "vb": vb}


def variational_bound(
    output: Float[Array, "b h w k"],
    x0: Images,
    x: Images,
    t: Int[Array, " b"],
    *,
    schedule: Schedule,
    prediction: Prediction,
) -> Float[Array, " b"]:
    """The term of timestep t in the bound on the likelihood, in bits per dimension.

    KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) for t > 0, and the negative
    logarithm of the discretized Gaussian for t = 0 (eqs. 4 to 6). The predicted x_0 is
    not clipped.

    Args:
      output: of the network at `x`.
      x0: clean images in [-1, 1], multiples of 1 / 127.5 apart.
      x: the noisy images.
      t: timestep of each example.
      schedule: of the noise.
      prediction: the meaning of `output`.
    """
    known = tables(schedule)
    mean, values = prediction.split(output.astype(jnp.float32), x0.shape[-1])
    alpha, sigma = gather(known.alpha, t), gather(known.sigma, t)
    predicted, _ = prediction.solve(mean, x, alpha, sigma)
    log_small = gather(known.log_posterior, t)
    log_variance = prediction.log_variance(values, log_small, gather(known.log_beta, t))
    # Both means share their part in x_t, which rounding would not cancel.
    gap = gather(known.posterior_x0, t) * (x0 - predicted)
    excess = log_variance - log_small
    divergence = 0.5 * (
        excess + jnp.expm1(-excess) + jnp.square(gap) * jnp.exp(-log_variance)
    )
    # At t = 0 the mean of the reverse step is the predicted x_0 itself.
    decoder = -discretized_gaussian(x0, x0 - gap, 0.5 * log_variance)
    term = jnp.where(t[:, None, None, None] == 0, decoder, divergence)
    return jnp.mean(term, axis=(1, 2, 3)) / np.float32(np.log(2))


def discretized_gaussian(
    x: Images,
    mean: Images,
    log_deviation: Images | Float[Array, "b 1 1 1"],
) -> Images:
    """Log-probability of 8-bit images under a Gaussian (eq. 13 of Ho et al. 2020).

    Args:
      x: values in [-1, 1]; a value stands for all within 1 / 255 of it, the first and
        last for everything beyond as well. Probabilities are at least 1e-12.
      mean: of the Gaussian.
      log_deviation: natural logarithm of its standard deviation.
    """
    # Differs: ADM approximates the normal distribution function with a tanh.
    scale = jnp.exp(-log_deviation)
    upper, lower = (x - mean + 1 / 255) * scale, (x - mean - 1 / 255) * scale
    # The tail of the upper side is small where both functions are nearly one.
    flip = lower > 0
    inside = ndtr(jnp.where(flip, -lower, upper)) - ndtr(jnp.where(flip, -upper, lower))
    tail = jnp.where(x > 0.999, ndtr(-lower), inside)
    return jnp.log(jnp.maximum(jnp.where(x < -0.999, ndtr(upper), tail), 1e-12))
