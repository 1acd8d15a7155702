"""Diffusion without networks: schedules, losses, samplers, guidance and inpainting.

Notation (`Song et al. 2021 <https://arxiv.org/abs/2010.02502>`_): timesteps t run from
0, nearly clean, to T - 1, nearly noise; ᾱ_t is the cumulative product of 1 - β_t, and
``x_t = alpha x_0 + sigma epsilon`` with ``alpha = √ᾱ_t`` and ``sigma = √(1 - ᾱ_t)``.
The clean image has ᾱ = 1. Images are ``[B, H, W, C]`` float32, usually in [-1, 1].

Three frozen descriptions say what is done, and equal ones share one compilation:

* `schedules.Schedule`: how much noise there is at each timestep,
* `prediction.Prediction`: what the output of the network means,
* `samplers.Sampler`: which steps are taken, and by which rule.

A network is any function ``model(x, t) -> output`` with ``x [B, H, W, C]``, ``t [B]``
(original timesteps, also on a respaced grid) and an output of C channels, or of 2 C
where it also predicts the variance. A loop is one `jax.lax.scan` over numbers computed
beforehand in float64, so the network is compiled once. What is random about an example
derives from its own key: never from the size of a batch or the place in it.
"""
