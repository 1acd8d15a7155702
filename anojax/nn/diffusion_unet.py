"""The denoising U-Net of pixel-space diffusion models (DDPM, ADM), as in diffusers.

The tree of parameters is that of diffusers' ``UNet2DModel``, with ``_`` before an index
where that has a dot: ``down_blocks_0/resnets_1/conv1/kernel``.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from anojax.errors import AnojaxError
from anojax.nn.diffusion_blocks import (
    ClassLabels,
    DownBlock,
    Embedding,
    FourierTime,
    MidBlock,
    Timesteps,
    UNetBlock,
    UpBlock,
    positional_time,
)
from anojax.nn.diffusion_config import UNet2DConfig, receptive_field_px
from anojax.nn.init import normal
from anojax.nn.unet import check_sides

__all__ = ["UNet2D", "UNet2DConfig", "adm_config", "receptive_field_px"]


class UNetEncoder(UNetBlock):
    """The half that a U-Net shares with a classifier: embeddings, down, middle."""

    @nn.nowrap
    def embed(
        self, timesteps: Timesteps, labels: ClassLabels | None
    ) -> Float[Array, "b d"]:
        """The embedding of time and class that every block receives, float32.

        Raises:
          AnojaxError: class labels without classes, or classes without labels.
        """
        c, width = self.config, self.config.block_out_channels[0]
        if c.time_embedding_type == "fourier":
            project = FourierTime(size=width, name="time_proj")
        elif c.time_embedding_type == "learned":
            table = nn.Embed(c.num_train_timesteps, width, name="time_proj")

            def project(t):
                return table(t.astype(jnp.int32))
        else:

            def project(t):
                flip, shift = c.flip_sin_to_cos, c.freq_shift
                return positional_time(t, width, cosine_first=flip, shift=shift)

        def embed(name: str, t: Timesteps) -> Array:
            exact = self.shared() | {"dtype": jnp.float32}
            return Embedding(name=name, **exact)(project(t.astype(jnp.float32)))

        emb = embed("time_embedding", timesteps)
        by_table = c.class_embed_type is None and c.num_class_embeds is not None
        wanted = by_table or c.class_embed_type is not None
        if wanted != (labels is not None):
            raise AnojaxError(
                "the network knows classes, but class_labels is None; give one per "
                "image"
                if wanted
                else "class_labels were given to a network without classes; leave them "
                "out, or set num_class_embeds"
            )
        if by_table:
            init = normal(1.0)
            table = nn.Embed(
                c.num_class_embeds,
                c.embedding_dim,
                embedding_init=init,
                name="class_embedding",
            )
            emb = emb + table(labels)
        elif c.class_embed_type == "timestep":
            emb = emb + embed("class_embedding", labels)
        elif c.class_embed_type == "identity":
            emb = emb + labels.astype(jnp.float32)
        return emb

    @nn.nowrap
    def encode(
        self, x: Float[Array, "b h w c"], emb: Float[Array, "b d"], train: bool
    ) -> tuple[Float[Array, "b i j k"], list[Float[Array, "b _ _ _"]]]:
        """What leaves the middle, and the skips of the way down, in order.

        Raises:
          AnojaxError: the images have other channels than the network.
        """
        c = self.config
        check_sides(x, c.side_multiple)
        if x.shape[-1] != c.in_channels:
            raise AnojaxError(
                f"the network takes {c.in_channels} channels, not {x.shape[-1]}; "
                "change in_channels or the images"
            )
        x = x.astype(self.dtype)
        x = self.conv("conv_in", 2 * x - 1 if c.center_input_sample else x, self._first)
        skips = [x]
        for level in range(len(c.block_out_channels)):
            block = DownBlock(level=level, name=f"down_blocks_{level}", **self.shared())
            x, found = block(x, emb, train)
            skips += found
        if c.mid_block_type is not None:
            x = MidBlock(name="mid_block", **self.shared())(x, emb, train)
        return x, skips

    @property
    def _first(self) -> int:
        return self.config.block_out_channels[0]


class UNet2D(UNetEncoder):
    """Predicts noise, image or velocity from a noisy image and its time step.

    A network that learns the variance has twice the channels in its output.
    """

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        timesteps: Timesteps,
        class_labels: ClassLabels | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "b h w k"]:
        """The prediction, float32.

        Args:
          x: noisy images in [-1, 1]; both sides multiples of `side_multiple`.
          timesteps: one per image; noise levels for a ``"fourier"`` embedding.
          class_labels: indices; for an ``"identity"`` embedding the embeddings.
          train: whether dropout is active; it needs the stream ``"dropout"``.

        Raises:
          AnojaxError: sides or channels do not fit, or labels are missing or too many.
        """
        c = self.config
        emb = self.embed(timesteps, class_labels)
        x, skips = self.encode(x, emb, train)
        if not c.first_skip:
            x, skips[-1] = skips[-1], None
        for level in range(len(c.block_out_channels)):
            block = UpBlock(level=level, name=f"up_blocks_{level}", **self.shared())
            x = block(
                x, [skips.pop() for _ in range(c.layers_per_block + 1)], emb, train
            )
        x = nn.silu(self.norm("conv_norm_out")(x))
        x = self.conv("conv_out", x, c.out_channels, zero=self.zero_init)
        x = x.astype(jnp.float32)
        if c.time_embedding_type == "fourier":
            x = x / timesteps.astype(jnp.float32)[:, None, None, None]
        return x


def adm_config(
    *,
    channels: int = 3,
    out_channels: int | None = None,
    width: int = 256,
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4),
    attention_at: tuple[int, ...] = (8, 16, 32),
    middle: bool = True,
    resample_by_resnet: bool = True,
    scale_shift: bool = True,
    **settings,
) -> UNet2DConfig:
    """The networks of "Diffusion models beat GANs" (ADM), whose defaults are at 256 px.

    Args:
      channels: of the image.
      out_channels: of the prediction; ``None``: twice `channels`, a learned variance.
      width: of the first level; `multipliers` are the levels' factors to it.
      attention_at: factors of reduction, powers of two, at which there is attention.
      middle: whether there is a middle block.
      resample_by_resnet: residual blocks change the size, not plain convolutions.
      scale_shift: the embedding scales and shifts; otherwise it is added.
      **settings: further fields of `UNet2DConfig`.
    """
    plain = "ResnetDownsampleBlock2D" if resample_by_resnet else "DownBlock2D"
    down = tuple(
        "AttnDownBlock2D" if 2**level in attention_at else plain
        for level in range(len(multipliers))
    )
    upward = {
        "AttnDownBlock2D": "AttnUpBlock2D",
        "ResnetDownsampleBlock2D": "ResnetUpsampleBlock2D",
        "DownBlock2D": "UpBlock2D",
    }
    by = "resnet" if resample_by_resnet else "conv"
    defaults = {"attention_head_dim": 64, "attn_norm_num_groups": 32}
    return UNet2DConfig(
        in_channels=channels,
        out_channels=2 * channels if out_channels is None else out_channels,
        block_out_channels=tuple(width * m for m in multipliers),
        down_block_types=down,
        up_block_types=tuple(upward[kind] for kind in reversed(down)),
        mid_block_type="UNetMidBlock2D" if middle else None,
        first_skip=middle,
        downsample_type=by,
        upsample_type=by,
        resnet_time_scale_shift="scale_shift" if scale_shift else "default",
        **(defaults | settings),
    )
