"""The U-Net that learns the score of noisy images (SPR, ICCV 2023)."""

from math import gcd

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from anojax.errors import SettingError
from anojax.nn.blocks import Conv, Network, dense, max_pool_2x2
from anojax.nn.group_norm import GroupNorm
from anojax.nn.resize import resize_bilinear
from anojax.nn.unet import check_sides


class ScoreUNet(Network):
    """Predicts ``std(t) * score``: minus the unit noise in an image, by and large.

    Every stage is told the time after its last activation, and the skips carry that
    too. Sides must be multiples of 16.
    """

    channels: int = 3
    """Channels of images and result."""
    width: int = 64
    """Channels of the first block, an even number; the deepest have eight times as
    many. It gives the number of frequencies as well: twice as many."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        t: Float[Array, " b"],
        frequencies: Float[Array, " f"],
    ) -> Float[Array, "b h w k"]:
        """
        Args:
          x: noisy images.
          t: their times.
          frequencies: of the Fourier features of time; they are fixed, not learned.
        """
        check_sides(x, 16)
        if self.width < 2 or self.width % 2:
            raise SettingError(f"width is {self.width}; give an even number from 2")
        w, time = self.width, self._time(t, frequencies)
        stage = lambda x, name, *sizes: self._stage(x, time, name, sizes)  # noqa: E731
        x, skips = stage(x, "down1", w, w), []
        for level, size in enumerate((2 * w, 4 * w, 8 * w, 8 * w), start=2):
            skips.append(x)
            x = stage(max_pool_2x2(x), f"down{level}", size, size)
        for level, size in zip((4, 3, 2, 1), (4 * w, 2 * w, w, w), strict=True):
            _, i, j, _ = x.shape
            x = resize_bilinear(x, (2 * i, 2 * j), align_corners=True)
            x = jnp.concatenate([skips.pop(), x], -1)
            x = stage(x, f"up{level}", x.shape[-1] // 2, size)
        head = Conv(features=self.channels, kernel=1, dtype=self.dtype, name="head")
        return head(x).astype(jnp.float32)

    def _time(self, t: Array, frequencies: Array) -> Array:
        """The embedding of time, ``[b, 4 width]``; its phases need float32."""
        phase = np.float32(2 * np.pi) * t[:, None] * frequencies[None]
        waves = jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], -1)
        return nn.silu(dense(self, "time", 4 * self.width, waves.shape[-1])(waves))

    def _stage(self, x: Array, time: Array, name: str, sizes: tuple[int, int]) -> Array:
        """Two convolutions to `sizes` channels, then the time is added."""
        for part, size in zip("ab", sizes, strict=True):
            conv = Conv(features=size, dtype=self.dtype, name=f"{name}{part}")
            # 32 groups; narrow networks keep two channels in a group.
            norm = GroupNorm(
                groups=gcd(32, size // 2), dtype=self.dtype, name=f"{name}{part}_norm"
            )
            x = nn.silu(norm(conv(x)))
        shift = dense(self, f"{name}_time", sizes[-1], time.shape[-1])(time)
        return x + shift[:, None, None]
