"""Defect-Gen: whole images of defects with their masks, from a handful of examples."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from anojax.core import Card, Synthesizer, hp
from anojax.diffusion.losses import draw
from anojax.diffusion.plan import Sampler
from anojax.diffusion.prediction import Prediction
from anojax.diffusion.samplers import Model, initial_noise, sample
from anojax.diffusion.schedules import Schedule, add_noise, split_grid
from anojax.errors import AnojaxError
from anojax.nn.diffusion_unet import UNet2D, UNet2DConfig, adm_config
from anojax.nn.init import init_network
from anojax.optim import Optimizer
from anojax.random import stream
from anojax.task import Examples, GradientTask, Metrics, Reduce, TrainState
from anojax.types import Inputs, PyTree, Synthesis

SCHEDULE = Schedule("cosine")
PREDICTION = Prediction("sample")


@dataclass(frozen=True)
class DefectGen(Synthesizer):
    """Generates an image with a defect, and at every pixel which type of defect it is.

    Two networks share the work: one that sees the whole image lays it out while there
    is much noise, one that sees only surroundings finishes it, which varies what a few
    examples show. The normal image gives size and channels, no pixel; hence no
    region can be kept, and the image's foreground means nothing here.

    The label is the type that covers most pixels, in natural order of the names of the
    exemplars' folders.
    """

    card: ClassVar[Card] = Card(
        title="Defect Spectrum: A Granular Look of Large-Scale Defect Datasets with Rich "
        "Semantics",
        authors="Shuai Yang, Zhifei Chen, Pengguang Chen, Xi Fang, Yixun Liang, Shu Liu, "
        "Yingcong Chen",
        venue="ECCV",
        year=2024,
        url="https://arxiv.org/abs/2310.17316",
        paradigm="generative",
        family="full_image",
        level="full_image",
        controls=(),
        mask="area",
        code_url="https://github.com/EnVision-Research/Defect_Spectrum",
        code_license="Apache-2.0",
        fidelity="formulas",
        differences=(
            "The second network goes on with the noisy image of the first, as in the "
            "paper; the public loop restarts it at t = 399 from a finished image.",
            "The networks take 50 and 25 steps, spaced evenly, where the paper takes all "
            "1000.",
            "Averaged parameters synthesize; the public code takes the last ones.",
            "The average begins quickly, so that short runs have one.",
            "Both networks are trained in one run, on the same batches, each with its own "
            "noise.",
            "At the last step nothing but the predicted image counts; the public step "
            "mixes it up at t = 1.",
            "Images whose sides the networks cannot halve are made larger and cropped.",
        ),
        unverified=(
            "The default of 50 timesteps for the second network.",
            "Whether the paper or only its code weights a cross-entropy by 0.2.",
        ),
    )

    defects: int = hp(
        1, "types of defects; training sets it from the exemplars", low=1, high=255
    )
    switch: int = hp(
        50,
        "last timesteps of 1000, which the network of small reach takes: 25 to 400; "
        "more varies more and orders less",
        low=0,
        high=1000,
    )
    large_steps: int = hp(
        50, "most steps of the network of large reach", low=1, high=1000
    )
    small_steps: int = hp(
        25, "most steps of the network of small reach", low=1, high=1000
    )
    large_width: int = hp(
        128, "channels of the first level, large reach", low=1, high=1024
    )
    large_multipliers: tuple[int, ...] = hp(
        (1, 1, 2, 2, 4, 4),
        "channels of the levels, large reach, in multiples of the first",
        low=1,
    )
    large_attention: tuple[int, ...] = hp(
        (8, 16, 32), "reductions, powers of two, with attention, large reach", low=1
    )
    small_width: int = hp(
        192, "channels of the first level, small reach", low=1, high=1024
    )
    small_multipliers: tuple[int, ...] = hp(
        (1, 2, 4),
        "channels of the levels, small reach; two, three, four reach 69, 157, 337 px",
        low=1,
    )
    blocks: int = hp(2, "residual blocks in each level of both networks", low=1)
    head_channels: int = hp(16, "channels of each attention head", low=1)
    norm_groups: int = hp(32, "groups of channels, each normalized together", low=1)

    def __post_init__(self):
        super().__post_init__()
        self.configs(3)  # says what is wrong with the widths

    def configs(self, channels: int) -> dict[str, UNet2DConfig]:
        """Both networks, for images and masks of so many channels together."""
        common = {
            "channels": channels,
            "out_channels": channels,
            "resample_by_resnet": False,
            "layers_per_block": self.blocks,
            "norm_num_groups": self.norm_groups,
            "attn_norm_num_groups": self.norm_groups,
        }
        large = adm_config(
            width=self.large_width,
            multipliers=self.large_multipliers,
            attention_at=self.large_attention,
            attention_head_dim=self.head_channels,
            **common,
        )
        small = adm_config(
            width=self.small_width,
            multipliers=self.small_multipliers,
            attention_at=(),
            middle=False,
            scale_shift=False,
            **common,
        )
        return {"large": large, "small": small}

    def networks(self, image_channels: int, **how) -> dict[str, UNet2D]:
        """Both networks, for images of so many channels."""
        configs = self.configs(image_channels + self.defects + 1)
        return {name: UNet2D(config=config, **how) for name, config in configs.items()}

    def made_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Size (h, w), at least `shape`, that both networks can halve."""
        multiple = max(config.side_multiple for config in self.configs(3).values())
        h, w = (-(-n // multiple) * multiple for n in shape)
        return h, w

    def plan(self) -> tuple[Sampler, int]:
        """The steps of both networks, and how many of them are the first one's."""
        first = min(self.large_steps, SCHEDULE.steps - self.switch)
        second = min(self.small_steps, self.switch)
        grid = split_grid(SCHEDULE.steps, self.switch, first, second)
        sampler = Sampler(
            "cold", len(grid), spacing="given", timesteps=grid, clip=(-1.0, 1.0)
        )
        return sampler, first

    def init(self, key: Key[Array, ""], inputs: Inputs) -> PyTree:
        h, w, c = inputs.image.shape
        x = jnp.zeros((1, *self.made_shape((h, w)), c + self.defects + 1))
        t = jnp.zeros((1,), jnp.int32)
        return {
            name: init_network(network, stream(key, name), x, t)["params"]
            for name, network in self.networks(c).items()
        }

    def synthesize(
        self, params: PyTree, key: Key[Array, ""], inputs: Inputs
    ) -> Synthesis:
        h, w, c = inputs.image.shape
        models = {
            name: lambda x, t, name=name, network=network: network.apply(
                {"params": params[name]}, x, t
            )
            for name, network in self.networks(c).items()
        }
        shape = (*self.made_shape((h, w)), c + self.defects + 1)
        noise = initial_noise(stream(key, "noise"), shape)
        made = generate(self, models["large"], models["small"], noise)[:h, :w]
        classes = jnp.argmax(made[..., c:], axis=-1)
        shares = jnp.mean(jax.nn.one_hot(classes, self.defects + 1), (0, 1))[1:]
        mask = (classes > 0)[..., None]
        anomalous = mask.any()
        mask = mask.astype(jnp.float32)
        return Synthesis(
            image=jnp.clip((made[..., :c] + 1) / 2, 0.0, 1.0),
            mask=mask,
            alpha=mask,
            label=jnp.where(anomalous, jnp.argmax(shares) + 1, 0).astype(jnp.int32),
            anomalous=anomalous,
            aux={"shares": shares},
        )


def generate(
    synth: DefectGen, large: Model, small: Model, noise: Float[Array, "*b h w c"]
) -> Float[Array, "*b h w c"]:
    """From noise to images and masks: `small` goes on where `large` ends.

    Args:
      synth: its switch and steps.
      large: predicts the clean state from a noisy one.
      small: the same, for the last timesteps.
      noise: from the standard normal distribution.

    Returns:
      Images and masks in [-1, 1].
    """
    sampler, first = synth.plan()
    how = dict(schedule=SCHEDULE, prediction=PREDICTION, sampler=sampler)
    noisy = sample(large, None, noise, stop=first, **how)
    return sample(small, None, noisy, start=first, **how)


@dataclass(frozen=True)
class DefectGenTask(GradientTask):
    """Both networks learn to see the exemplars, with their masks, through any noise.

    A state is an image in [-1, 1] and a one-hot mask in {0, 1}, background first.
    """

    learns_from_exemplars: ClassVar[bool] = True
    synth: DefectGen
    optimizer: Optimizer = Optimizer("adamw", 1e-4, weight_decay=0.002)
    ema_decay: float = hp(0.9999, "decay of the averaged parameters", low=0.0, high=1.0)
    ema_warmup: float | None = hp(
        10.0, "update k averages with a decay of at most (1 + k) / (this + k)", low=1.0
    )
    cross_entropy: float | None = hp(
        None,
        "weight of the masks' cross-entropy, in place of their squared error (0.2 in "
        "the public code); none: squared error",
        low=0.0,
    )
    remat: bool = hp(
        False, "recompute activations in the backward pass, for less memory"
    )

    def init_networks(
        self, key: Key[Array, ""], batch: Examples
    ) -> tuple[PyTree, PyTree]:
        return self.synth.init(key, Inputs(image=batch.images[0])), {}

    def loss(
        self,
        params: PyTree,
        state: TrainState,
        key: Key[Array, ""],
        batch: Examples,
        reduce: Reduce,
    ) -> tuple[Float[Array, ""], tuple[PyTree, Metrics]]:
        x0, losses = self.states(batch), {}
        c = x0.shape[-1] - self.synth.defects - 1
        networks = self.synth.networks(c, dtype=self.compute_dtype, remat=self.remat)
        for name, network in networks.items():
            keys = self.example_keys(key, batch, name)
            t, noise = draw(keys, x0, schedule=SCHEDULE)
            noisy = add_noise(x0, noise, t, schedule=SCHEDULE)
            found = network.apply({"params": params[name]}, noisy, t)
            losses[f"loss_{name}"] = self.error(found, x0)
        return sum(losses.values()), (state.statistics, losses)

    def states(self, batch: Examples) -> Float[Array, "b h w c"]:
        """What the networks are to predict: the exemplars' images and masks.

        Raises:
          AnojaxError: there are no exemplars, or precomputed anomalies instead of them.
        """
        exemplar, label = batch.inputs.exemplar, batch.inputs.label
        if batch.precomputed is not None or exemplar is None or label is None:
            raise AnojaxError(
                "defect_gen learns from real defects: inputs need exemplar and label "
                "(data.exemplars), and no precomputed anomalies"
            )
        images = Examples(Inputs(image=exemplar.image), batch.ids).images
        classes = jnp.where(exemplar.mask[..., 0] > 0, label[:, None, None], 0)
        masks = jax.nn.one_hot(classes, self.synth.defects + 1)
        return jnp.concatenate([2 * images - 1, masks], axis=-1)

    def error(
        self, found: Float[Array, "b h w c"], x0: Float[Array, "b h w c"]
    ) -> Float[Array, ""]:
        """How far predicted states are from the true ones."""
        if self.cross_entropy is None:
            return jnp.mean(jnp.square(found - x0))
        c = x0.shape[-1] - self.synth.defects - 1
        logs = jax.nn.log_softmax(found[..., c:], axis=-1)
        entropy = -jnp.mean(jnp.sum(x0[..., c:] * logs, axis=-1))
        return (
            jnp.mean(jnp.square(found[..., :c] - x0[..., :c]))
            + self.cross_entropy * entropy
        )

    def params(self, state) -> PyTree:
        return state.averaged
