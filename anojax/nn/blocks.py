"""Layers with the conventions of PyTorch, on which the published networks rest.

Padding is explicit and symmetric (``"SAME"`` pads strided convolutions otherwise),
weights and biases start as PyTorch's do, and batch normalization keeps 90 % of its
running statistics per step. Its running variance is the biased one of the batch;
PyTorch's is larger by n / (n - 1).
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax import lax
from jaxtyping import Array, Float

from anojax.nn.init import Initializer, uniform_fan_in

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


class Network(nn.Module, kw_only=True):
    """What all networks and blocks share."""

    dtype: Any = jnp.float32
    """Precision of the arithmetic: float32 or bfloat16."""
    axis_name: str | None = None
    """Mapped axis over which batch normalization averages its statistics; ``None``:
    each device uses those of its own examples (a mesh under `jit` needs no name)."""


class Conv(nn.Module, kw_only=True):
    """Convolution padded by (kernel - 1) // 2 on all sides, as PyTorch would."""

    features: int
    kernel: int = 3
    stride: int = 1
    use_bias: bool = True
    kernel_init: Initializer | None = None
    """``None``: PyTorch's default. The bias always starts with that."""
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j k"]:
        size, channels = self.kernel, x.shape[-1]
        default = uniform_fan_in(size * size * channels)
        kernel = self.param(
            "kernel",
            self.kernel_init or default,
            (size, size, channels, self.features),
        )
        bias = self.param("bias", default, (self.features,)) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        pad = (size - 1) // 2
        y = lax.conv_general_dilated(
            x,
            kernel,
            (self.stride, self.stride),
            [(pad, pad)] * 2,
            dimension_numbers=DIMENSIONS,
        )
        return y if bias is None else y + bias[None, None, None]


class ConvTranspose(nn.Module, kw_only=True):
    """Transposed convolution of stride 2 that doubles both sides.

    It is the ordinary convolution of the input with zeros put between its pixels:
    PyTorch's kernel, flipped along both sides.
    """

    features: int
    kernel: int = 4
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j k"]:
        size, channels = self.kernel, x.shape[-1]
        # PyTorch counts the outgoing side of a transposed kernel as its fan-in.
        default = uniform_fan_in(size * size * self.features)
        kernel = self.param("kernel", default, (size, size, channels, self.features))
        bias = self.param("bias", default, (self.features,)) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = _convolve_doubled(x, kernel)
        return y if bias is None else y + bias[None, None, None]


def _convolve_doubled(
    x: Float[Array, "b h w c"], kernel: Float[Array, "s s c k"]
) -> Float[Array, "b 2*h 2*w k"]:
    """Convolution of `x` with zeros put between its pixels, padded to twice the sides.

    Even and odd outputs meet different taps: four small convolutions, put together,
    do without the zeros, whose gradients are slow on CPU.
    """
    b, h, w, _ = x.shape
    size, features = kernel.shape[0], kernel.shape[-1]
    low = size - 1 - (size - 1) // 2

    def taps(parity: int) -> tuple[slice, tuple[int, int]]:
        """The taps that meet pixels there, and the padding of `x` that they need."""
        first = (low - parity) % 2
        count = len(range(first, size, 2))
        before = (low - parity - first) // 2
        return slice(first, None, 2), (before, count - 1 - before)

    def part(row: int, column: int) -> Array:
        (rows, pad_y), (columns, pad_x) = taps(row), taps(column)
        own = kernel[rows, columns]
        if own.size == 0:
            return jnp.zeros((b, h, w, features), x.dtype)
        return lax.conv_general_dilated(
            x, own, (1, 1), [pad_y, pad_x], dimension_numbers=DIMENSIONS
        )

    rows = jnp.stack([jnp.stack([part(y, 0), part(y, 1)]) for y in (0, 1)])
    return rearrange(rows, "i j b h w c -> b (h i) (w j) c")


def batch_norm(
    parent: Network,
    name: str,
    train: bool,
    scale_init: Initializer = nn.initializers.ones,
) -> Callable[[Array], Array]:
    """Batch normalization for a layer of `parent`, with PyTorch's epsilon and momentum.

    It computes in float32, whatever the precision of its input.
    """
    norm = nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        use_fast_variance=False,
        scale_init=scale_init,
        axis_name=parent.axis_name,
        dtype=jnp.float32,
        name=name,
    )
    return lambda x: norm(x.astype(jnp.float32)).astype(parent.dtype)


def dense(parent: Network, name: str, features: int, fan_in: int) -> nn.Dense:
    """Linear layer of `parent` with bias, both starting as PyTorch's do."""
    return nn.Dense(
        features,
        kernel_init=uniform_fan_in(fan_in),
        bias_init=uniform_fan_in(fan_in),
        dtype=parent.dtype,
        name=name,
    )


class ConvNorm(Network):
    """Convolution, batch normalization and, unless told otherwise, ReLU."""

    features: int
    kernel: int = 3
    stride: int = 1
    use_bias: bool = True
    relu: bool = True
    kernel_init: Initializer | None = None
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> Float[Array, "b i j k"]:
        x = Conv(
            features=self.features,
            kernel=self.kernel,
            stride=self.stride,
            use_bias=self.use_bias,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="conv",
        )(x)
        x = batch_norm(self, "bn", train, self.scale_init)(x)
        return nn.relu(x) if self.relu else x


class ProjectionHead(Network):
    """Classifier on an embedding: `depth` layers of the embedding's own width, one of
    `features`, each with batch normalization and ReLU, then the logits (CutPaste)."""

    classes: int
    depth: int = 1
    features: int = 128

    @nn.compact
    def __call__(self, x: Float[Array, "b d"], train: bool) -> Float[Array, "b k"]:
        sizes = [x.shape[-1]] * self.depth + [self.features]
        for i, size in enumerate(sizes):
            x = dense(self, f"dense{i}", size, x.shape[-1])(x)
            x = nn.relu(batch_norm(self, f"bn{i}", train)(x))
        logits = dense(self, "logits", self.classes, x.shape[-1])(x)
        return logits.astype(jnp.float32)


def max_pool_2x2(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
    """Maximum of every 2 x 2 block; sides must be even.

    Written with maxima, not a pooling window, whose gradient is slow on CPU.
    """
    channels = x.shape[3]
    x = rearrange(x, "b (h i) w c -> b h i (w c)", i=2)
    x = jnp.maximum(x[:, :, 0], x[:, :, 1])
    x = rearrange(x, "b h (w j c) -> b h w j c", j=2, c=channels)
    return jnp.maximum(x[..., 0, :], x[..., 1, :])
