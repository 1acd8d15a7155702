"""What a denoising U-Net is made of, in the words of diffusers' ``UNet2DModel``."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from anojax.errors import SettingError, did_you_mean

DOWN_BLOCKS = ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D")
UP_BLOCKS = ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D")

CHOICES = {
    "time_embedding_type": ("positional", "fourier", "learned"),
    "mid_block_type": ("UNetMidBlock2D", None),
    "downsample_padding": (0, 1),
    "downsample_type": ("conv", "resnet"),
    "upsample_type": ("conv", "resnet"),
    "act_fn": ("silu", "swish", "mish", "gelu", "relu"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "class_embed_type": (None, "timestep", "identity"),
}
"""What is built, of the settings that name a variant."""


@dataclass(frozen=True)
class UNet2DConfig:
    """Fields, defaults and meanings are those of ``UNet2DModel``, but for the last."""

    sample_size: int | tuple[int, int] | None = None
    """Side of the images in px, or (h, w). Only a classifier is bound to it."""
    in_channels: int = 3
    out_channels: int = 3
    """Twice the channels of the image where the variance is learned."""
    center_input_sample: bool = False
    """Whether the input lies in [0, 1] and is to be moved to [-1, 1]."""
    time_embedding_type: str = "positional"
    time_embedding_dim: int | None = None
    """``None``: four times the first width."""
    freq_shift: int = 0
    flip_sin_to_cos: bool = True
    """Cosines before sines in the positional embedding."""
    down_block_types: tuple[str, ...] = ("DownBlock2D", *["AttnDownBlock2D"] * 3)
    mid_block_type: str | None = "UNetMidBlock2D"
    """``None``: no middle block."""
    up_block_types: tuple[str, ...] = (*["AttnUpBlock2D"] * 3, "UpBlock2D")
    """From the deepest level upwards."""
    block_out_channels: tuple[int, ...] = (224, 448, 672, 896)
    """Width of every level; every level but the last halves the sides."""
    layers_per_block: int = 2
    """Residual blocks per level on the way down; one more on the way up."""
    mid_block_scale_factor: float = 1
    downsample_padding: int = 1
    """Of strided convolutions: 1 on all sides, or 0: 1 below and to the right."""
    downsample_type: str = "conv"
    """How blocks with attention halve: a strided convolution, or a residual block."""
    upsample_type: str = "conv"
    dropout: float = 0.0
    act_fn: str = "silu"
    attention_head_dim: int | None = 8
    """Channels per head; ``None``: one head."""
    norm_num_groups: int = 32
    attn_norm_num_groups: int | None = None
    """Groups in the attention of the middle. ``None``: `norm_num_groups`, or without
    normalization where `resnet_time_scale_shift` is ``"scale_shift"``."""
    norm_eps: float = 1e-5
    resnet_time_scale_shift: str = "default"
    """Whether the embedding is added, or scales and shifts what is normalized."""
    add_attention: bool = True
    """Attention in the middle block."""
    class_embed_type: str | None = None
    num_class_embeds: int | None = None
    """Classes of the table, where `class_embed_type` is ``None``."""
    num_train_timesteps: int | None = None
    """Rows of a ``"learned"`` time embedding."""
    first_skip: bool = True
    """Not of diffusers. False: the deepest feature enters the way up once, not also as
    its own skip, which it would be without a middle block (Defect-Gen's small net)."""

    def __post_init__(self):
        for name, known in CHOICES.items():
            _check(name, getattr(self, name), known)
        for name, known in (
            ("down_block_types", DOWN_BLOCKS),
            ("up_block_types", UP_BLOCKS),
        ):
            for kind in getattr(self, name):
                _check(name, kind, known)
            if len(getattr(self, name)) != len(self.block_out_channels):
                raise SettingError(
                    f"{name} names {len(getattr(self, name))} blocks but "
                    f"block_out_channels has {len(self.block_out_channels)} widths; "
                    "give one block per width"
                )
        self._check_widths()
        if self.time_embedding_type == "learned" and not self.num_train_timesteps:
            raise SettingError(
                "time_embedding_type 'learned' needs num_train_timesteps; give the "
                "number of steps of the schedule, say 1000"
            )
        if not self.first_skip and self.mid_block_type is not None:
            raise SettingError(
                f"first_skip is False with mid_block_type '{self.mid_block_type}', "
                "whose output is not its own skip; set mid_block_type to None"
            )

    def _check_widths(self) -> None:
        groups = {"norm_num_groups": self.block_out_channels}
        if self.attn_norm_num_groups is not None:
            groups["attn_norm_num_groups"] = self.block_out_channels[-1:]
        for name, widths in groups.items():
            count = getattr(self, name)
            if bad := [width for width in widths if not count or width % count]:
                raise SettingError(
                    f"{name} is {count}, which does not divide the width {bad[0]} of "
                    "block_out_channels; choose a divisor of all widths"
                )
        if (self.attention_head_dim or 1) > min(self.attended, default=2**31):
            raise SettingError(
                f"attention_head_dim is {self.attention_head_dim}, wider than a level "
                f"of {min(self.attended)} channels with attention; give at most that"
            )

    @property
    def attended(self) -> tuple[int, ...]:
        """Widths of the levels and the middle where there is attention."""
        up = self.up_block_types[::-1]
        kinds = zip(self.down_block_types, up, self.block_out_channels, strict=True)
        found = [w for down, up, w in kinds if "Attn" in down or "Attn" in up]
        middle = self.mid_block_type is not None and self.add_attention
        return (*found, *self.block_out_channels[-1:] * middle)

    @property
    def embedding_dim(self) -> int:
        """Channels of the embedding of time and class."""
        return self.time_embedding_dim or 4 * self.block_out_channels[0]

    @property
    def side_multiple(self) -> int:
        """Both sides of an image must be multiples of this."""
        return 2 ** (len(self.block_out_channels) - 1)

    def resamples_by(self, kind: str) -> str:
        """``"conv"`` or ``"resnet"``: how a block of that kind changes the size."""
        if kind.startswith("Attn"):
            return self.downsample_type if "Down" in kind else self.upsample_type
        return "resnet" if kind.startswith("Resnet") else "conv"

    def to_dict(self) -> dict[str, Any]:
        """For JSON, as diffusers writes it; `first_skip` only where it is False."""
        found = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
        if self.first_skip:
            del found["first_skip"]
        return found

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "UNet2DConfig":
        """From JSON; names that begin with an underscore are diffusers' own notes.

        Raises:
          SettingError: a name or value that there is no network for.
        """
        known = [field.name for field in fields(cls)]
        found = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
            if not name.startswith("_")
        }
        for name in found:
            if name not in known:
                raise SettingError(
                    f"a UNet2DModel has no setting '{name}'{did_you_mean(name, known)}"
                )
        return cls(**found)


def receptive_field_px(config: UNet2DConfig) -> int | None:
    """Side of the window that one output pixel can depend on, at its widest, in px.

    ``None``: the whole image, through attention. Group normalization is left out: it
    mixes its statistics over the whole image.
    """
    if config.attended:
        return None
    return max(
        high - low + 1
        for low, high in (_window(config, p) for p in range(config.side_multiple))
    )


def _window(config: UNet2DConfig, pixel: int) -> tuple[int, int]:
    """First and last input pixel behind an output pixel, traced back to front.

    The way through the deepest level is the widest.
    """
    deepest = len(config.block_out_channels) - 1
    # Every residual block has two convolutions, which reach one pixel further each.
    up, down = 2 * (config.layers_per_block + 1), 2 * config.layers_per_block
    low, high = pixel - 1, pixel + 1
    for kind in config.up_block_types[:0:-1]:
        low, high = low - up, high + up
        reach = 2 if config.resamples_by(kind) == "resnet" else 1
        low, high = (low - reach) // 2, (high + reach) // 2
    middle = 0 if config.mid_block_type is None else 4
    low, high = low - up - middle, high + up + middle
    for level in range(deepest, -1, -1):
        low, high = low - down, high + down
        if level == 0:
            break
        if config.resamples_by(config.down_block_types[level - 1]) == "resnet":
            low, high = 2 * (low - 2), 2 * (high + 2) + 1
        else:
            low, high = 2 * low - config.downsample_padding, 2 * high + 2
            high -= config.downsample_padding
    return low - 1, high + 1


def _check(name: str, value: Any, known: Iterable[Any]) -> None:
    if value not in known:
        raise SettingError(
            f"{name} is {value!r}, which is not built here; choose one of "
            f"{', '.join(repr(k) for k in known)}"
        )
