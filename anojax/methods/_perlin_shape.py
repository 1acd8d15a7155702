"""The settings that all methods with Perlin-shaped defects share."""

from dataclasses import dataclass
from typing import final, get_args

import jax
from jaxtyping import Array, Float, Key

from anojax.core import Layered, hp
from anojax.ops.noise import OnEmpty, Rotation, perlin_shape
from anojax.random import stream
from anojax.types import Inputs


@dataclass(frozen=True)
class PerlinShape(Layered):
    """A method whose defects are thresholded Perlin noise (`anojax.ops.noise`)."""

    exponents: tuple[int, int] = hp(
        (0, 5), "range of e: the noise has 2**e cells along an axis", low=0, high=7
    )
    threshold: float = hp(
        0.5, "level of the noise above which the defect lies", low=-1, high=1
    )
    rotation: str = hp(
        "resample",
        "how the noise is turned by up to 90 degrees: interpolated (resample, "
        "nearest), evaluated at turned points (direct), or not at all (none)",
        choices=get_args(Rotation),
    )
    on_empty: str = hp(
        "keep",
        "empty masks are kept, redrawn (retry), or avoided by stretching the noise "
        "(rescale)",
        choices=get_args(OnEmpty),
    )

    @final
    def perlin(self, key: Key[Array, ""], inputs: Inputs) -> Float[Array, "h w 1"]:
        """A mask by these settings, for `shape`: where a defect may go, and of the area
        that is requested."""
        return perlin_shape(
            stream(key, "shape"),
            inputs,
            exponents=self.exponents,
            threshold=self.threshold,
            rotation=self.rotation,
            on_empty=self.on_empty,
        )


def drawn_opacity(
    key: Key[Array, ""], inputs: Inputs, bounds: tuple[float, float]
) -> Array:
    """The severity requested, or a uniform draw from the stream ``"blend"``."""
    if inputs.controls.severity is not None:
        return inputs.controls.severity
    low, high = bounds
    return jax.random.uniform(stream(key, "blend"), minval=low, maxval=high)
