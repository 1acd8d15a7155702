"""The networks that RealNet generates with, and their settings."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from anojax.core import hp
from anojax.diffusion.losses import draw
from anojax.diffusion.prediction import Prediction
from anojax.diffusion.schedules import Schedule, add_noise
from anojax.errors import MissingInput, SettingError
from anojax.methods._perlin_shape import PerlinShape
from anojax.nn.diffusion_classifier import UNetClassifier
from anojax.nn.diffusion_unet import UNet2D, UNet2DConfig, adm_config
from anojax.nn.init import init_network
from anojax.types import Inputs, PyTree

SCHEDULE = Schedule("linear", 1000)
PREDICTION = Prediction("epsilon", "learned_range")

Shape = tuple[int, int]


@dataclass(frozen=True)
class RealnetDiffusion(PerlinShape):
    """A diffusion model of images in [-1, 1], and the classifier that can guide it."""

    model_size: int | None = hp(
        None, "shorter side in px of what is generated; none: the image's", low=1
    )
    classes: int | None = hp(
        None,
        "categories that the network tells apart by `label`; training sets it from a "
        "data set of several; none: one",
        low=1,
    )
    guidance: float | None = hp(
        None,
        "weight of the gradient of a classifier that draws every step to the category "
        "(the paper: 1); none: no classifier",
        low=0.0,
    )
    width: int = hp(256, "channels of the network's first level", low=1, high=1024)
    multipliers: tuple[int, ...] = hp(
        (1, 1, 2, 2, 4, 4),
        "channels of the network's levels, in multiples of the first's",
        low=1,
    )
    attention_at: tuple[int, ...] = hp(
        (8, 16, 32),
        "reductions, powers of two, at which the network has attention",
        low=1,
    )
    blocks: int = hp(2, "residual blocks in each level of the network", low=1)
    head_channels: int = hp(64, "channels of each attention head", low=1)
    norm_groups: int = hp(32, "groups of channels, each normalized together", low=1)
    classifier_width: int = hp(
        128,
        "channels of the classifier's first level; all else it has like the network",
        low=1,
        high=1024,
    )

    def __post_init__(self):
        super().__post_init__()
        # They say what is wrong with the settings.
        self._config(1, self.width)
        if self.guidance is not None:
            self._config(1, self.classifier_width)

    def network(self, channels: int, **how) -> UNet2D:
        """The diffusion network for images of so many channels."""
        classes = {"num_class_embeds": self.classes}
        return UNet2D(config=self._config(channels, self.width, **classes), **how)

    def classifier(self, channels: int, shape: Shape, **how) -> UNetClassifier:
        """The classifier of noisy images of that many channels and that size (h, w).

        Its attention numbers the places of the image: another size needs another
        classifier.

        Raises:
          SettingError: there are no categories to tell apart.
        """
        self.check_guided()
        config = self._config(channels, self.classifier_width, sample_size=shape)
        return UNetClassifier(config=config, classes=self.classes, **how)

    def check_guided(self) -> None:
        """Raise `SettingError` unless there are categories that could guide.

        Raises:
          SettingError: there are none.
        """
        if self.classes is None or self.classes < 2:
            raise SettingError(
                f"realnet: guidance is {self.guidance} and classes is {self.classes}; "
                "a classifier guides between at least two categories: train on a data "
                "set of several, or leave guidance out"
            )

    def generated_shape(self, shape: Shape) -> Shape:
        """Size (h, w) at which an image of size `shape` is generated.

        That is `model_size`, rounded to sides that the network can halve.
        """
        scale = 1 if self.model_size is None else self.model_size / min(shape)
        multiple = 2 ** (len(self.multipliers) - 1)
        h, w = (max(round(n * scale / multiple), 1) * multiple for n in shape)
        return h, w

    def init_network(self, key: Key[Array, ""], inputs: Inputs) -> PyTree:
        """Fresh parameters of the diffusion network."""
        x, t = self._example(inputs)
        labels = None if self.classes is None else t
        return init_network(self.network(x.shape[-1]), key, x, t, labels)["params"]

    def init_classifier(self, key: Key[Array, ""], inputs: Inputs) -> PyTree:
        """Fresh parameters of the classifier."""
        x, t = self._example(inputs)
        network = self.classifier(x.shape[-1], x.shape[1:3])
        return init_network(network, key, x, t)["params"]

    def noised(
        self, images: Float[Array, "b h w c"], keys: Key[Array, " b"]
    ) -> tuple[Array, Array, Array, Array]:
        """What both networks are trained with.

        Args:
          images: in [0, 1].
          keys: of the timestep and the noise of each.

        Returns:
          The images in [-1, 1] at the size of `painted_shape`, the same with noise, the
          noise, and the timesteps ``[b]``.
        """
        x0 = 2 * resized(images, self.generated_shape(images.shape[1:3])) - 1
        t, noise = draw(keys, x0, schedule=SCHEDULE)
        return x0, add_noise(x0, noise, t, schedule=SCHEDULE), noise, t

    def labels(self, given: Array | None) -> Int[Array, " b"] | None:
        """What the networks are told, of one label or of a batch's.

        Raises:
          MissingInput: there are classes, and no label.
        """
        if self.classes is None:
            return None
        if given is None:
            raise MissingInput(
                f"realnet with {self.classes} classes needs the category of every "
                "image as `label`; give it, or leave the setting classes out"
            )
        return jnp.atleast_1d(jnp.asarray(given, jnp.int32))

    def _example(self, inputs: Inputs) -> tuple[Array, Array]:
        h, w, c = inputs.image.shape
        return jnp.zeros((1, *self.generated_shape((h, w)), c)), jnp.zeros(
            (1,), "int32"
        )

    def _config(self, channels: int, width: int, **more) -> UNet2DConfig:
        return adm_config(
            channels=channels,
            width=width,
            multipliers=self.multipliers,
            attention_at=self.attention_at,
            layers_per_block=self.blocks,
            attention_head_dim=self.head_channels,
            norm_num_groups=self.norm_groups,
            attn_norm_num_groups=self.norm_groups,
            **more,
        )


def resized(x: Float[Array, "b h w c"], shape: Shape) -> Float[Array, "b i j c"]:
    """Images at another size, bilinear, antialiased."""
    if x.shape[1:3] == shape:
        return x
    return jax.image.resize(x, (x.shape[0], *shape, x.shape[-1]), "linear")
