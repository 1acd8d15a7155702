"""RealNet's second training: the detector, on anomalies from its diffusion model."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from anojax.core import hp
from anojax.detector import Detector
from anojax.errors import SettingError
from anojax.methods.generative.realnet.networks import (
    RealnetNetwork,
    SelectedFeatures,
    peak_of_means,
    selection_losses,
    smallest,
)
from anojax.nn import losses
from anojax.nn.init import init_network
from anojax.nn.resnet import ARCHITECTURES
from anojax.optim import Optimizer
from anojax.task import Component, Examples, GradientTask, Metrics, Reduce, TrainState
from anojax.types import PyTree


@dataclass(frozen=True)
class RealnetDetector(Detector):
    """The probability of an anomaly at every pixel; its peak over squares is the score."""

    features: SelectedFeatures
    network: RealnetNetwork
    pool_px: int = 16

    def score(
        self, variables: PyTree, image: Float[Array, "h w c"]
    ) -> tuple[Float[Array, "h w"], Float[Array, ""]]:
        known, backbone = variables["statistics"], variables["frozen"]["backbone"]
        maps = self.features.maps(backbone, image[None], jnp.float32)
        _, logits = self.network.apply(
            {"params": variables["params"], "batch_stats": known["batch_stats"]},
            self.features.choose(maps, known["selection"]),
            image.shape[:2],
            False,
        )
        found = jax.nn.softmax(logits)[0, ..., 1]
        return found, peak_of_means(found, self.pool_px)


@dataclass(frozen=True)
class RealnetDetectorTask(GradientTask):
    """Features of anomalies are put back to those of the normal images, and what
    remains is turned into a map of the defects.

    Before the first step, the channels that tell best where the anomalies are get
    chosen ("anomaly-aware feature selection"). The loss is the squared error of the
    restored features, summed over the blocks, + cross-entropy of the map.
    """

    stage: ClassVar[str] = "detector"

    optimizer: Optimizer = Optimizer("adam", 1e-4)
    backbone: str = hp(
        "wide_resnet50_2",
        "frozen network that the features come from",
        choices=tuple(ARCHITECTURES),
    )
    backbone_width: int = hp(
        64, "channels of its stem; published weights have 64", low=1, high=64
    )
    selected: tuple[int, int, int, int] = hp(
        (256, 512, 512, 256), "channels chosen of its four stages; 0: not used", low=0
    )
    strides: tuple[int, int, int, int] = hp(
        (4, 8, 16, 32),
        "in px, at which each stage is restored; stages of one stride share a network "
        "(the paper's larger variant: 4, 4, 16, 16)",
        low=4,
        high=32,
    )
    selection_batches: int = hp(
        64, "batches on which the choice of channels rests", low=1
    )
    multipliers: tuple[int, ...] = hp(
        (1, 2, 4),
        "channels of the levels that restore, in multiples of half the chosen ones",
        low=1,
    )
    blocks: int = hp(2, "residual blocks in each level that restores", low=1)
    head_channels: int = hp(64, "channels of each attention head", low=1)
    norm_groups: int = hp(32, "groups of channels, each normalized together", low=1)
    by_max: int = hp(
        256, "residual channels chosen of each image by their greatest value", low=1
    )
    by_mean: int = hp(
        256, "residual channels chosen of each image by their mean", low=1
    )
    clean_share: float = hp(0.5, "share of images left clean", low=0.0, high=1.0)
    restoration_weight: float = hp(
        1.0, "weight of the squared error of the features", low=0.0
    )
    pool_px: int = hp(
        16,
        "for the score, the map is averaged over squares of this side, at most the "
        "image's",
        low=1,
    )

    def __post_init__(self):
        super().__post_init__()
        self._check_sizes()

    def components(self) -> dict[str, Component]:
        return {"backbone": Component("backbone", self.backbone)}

    @property
    def features(self) -> SelectedFeatures:
        """Where features come from."""
        return SelectedFeatures(
            self.backbone,
            self.backbone_width,
            self.selected,
            self.strides,
            len(self.multipliers) - 1,
        )

    def network(self, **how) -> RealnetNetwork:
        """What is trained."""
        return RealnetNetwork(
            multipliers=self.multipliers,
            blocks=self.blocks,
            head_channels=self.head_channels,
            groups=self.norm_groups,
            by_max=self.by_max,
            by_mean=self.by_mean,
            **how,
        )

    def detector(self) -> RealnetDetector:
        return RealnetDetector(self.features, self.network(), self.pool_px)

    def init_networks(
        self, key: Key[Array, ""], batch: Examples
    ) -> tuple[PyTree, PyTree]:
        self._check_painter(batch)
        selection, images = self.features.first(), batch.images[:1]

        def selected(images):
            backbone = self.features.init(jax.random.key(0))
            maps = self.features.maps(backbone, images, jnp.float32)
            return self.features.choose(maps, selection)

        shapes = jax.eval_shape(selected, images)
        blocks = tuple(jnp.zeros(x.shape, x.dtype) for x in shapes)
        made = init_network(self.network(), key, blocks, images.shape[1:3], False)
        return made["params"], {
            "selection": selection,
            "selected": np.bool_(False),
            "batch_stats": made["batch_stats"],
        }

    def init_frozen(self, key: Key[Array, ""], batch: Examples) -> dict[str, PyTree]:
        return {"backbone": self.features.init(key)}

    def begin(
        self, state: TrainState, key: Key[Array, ""], batches: Iterator[Examples]
    ) -> TrainState:
        """Choose the channels, on anomalies without clean images among them.

        A choice that has been made before stays, for the networks know its channels.
        """
        selection = state.statistics["selection"]
        if state.statistics["selected"]:
            return state
        backbone = jax.device_put(state.frozen["backbone"])
        total, bank = None, None
        for batch in islice(batches, self.selection_batches):
            bank = jax.device_put(batch.bank) if bank is None else bank
            found = _selection_losses(self, backbone, key, batch.replace(bank=bank))
            total = found if total is None else jax.tree.map(jnp.add, total, found)
        chosen = {n: smallest(total[n], len(x)) for n, x in selection.items()}
        made = {"selection": jax.device_get(chosen), "selected": np.bool_(True)}
        statistics = {**state.statistics, **made}
        return state.replace(statistics=statistics)

    def loss(
        self,
        params: PyTree,
        state: TrainState,
        key: Key[Array, ""],
        batch: Examples,
        reduce: Reduce,
    ) -> tuple[Float[Array, ""], tuple[PyTree, Metrics]]:
        self._check_painter(batch)
        out = self.draw(key, batch, clean_share=self.clean_share)
        images = batch.images
        # The frozen network sees anomalies and normal images in one go.
        maps = self.features.maps(
            state.frozen["backbone"],
            jnp.concatenate([out.image, images]),
            self.compute_dtype,
        )
        both = self.features.choose(maps, state.statistics["selection"])
        given, normal = zip(*(jnp.split(x, 2) for x in both), strict=True)
        network = self.network(dtype=self.compute_dtype, axis_name=reduce.axis)
        (restored, logits), new = network.apply(
            {"params": params, "batch_stats": state.statistics["batch_stats"]},
            given,
            images.shape[1:3],
            True,
            mutable=["batch_stats"],
        )
        errors = [losses.l2(a, b) for a, b in zip(restored, normal, strict=True)]
        # Selected, not gathered: the gradient of a gather is slow to compile.
        normal_log, anomalous_log = jnp.unstack(jax.nn.log_softmax(logits), axis=-1)
        right = jnp.where(out.mask[..., 0] > 0, anomalous_log, normal_log)
        metrics = {
            "restoration": sum(errors[1:], errors[0]),
            "segmentation": -jnp.mean(right),
        }
        total = self.restoration_weight * metrics["restoration"]
        total += metrics["segmentation"]
        metrics["anomalous"] = jnp.mean(out.anomalous.astype(jnp.float32))
        statistics = {**state.statistics, "batch_stats": new["batch_stats"]}
        return total, (statistics, metrics)

    def _check_painter(self, batch: Examples) -> None:
        if batch.precomputed is None and self.synth.learns:
            raise SettingError(
                "realnet's detector learns from images that are generated beforehand: "
                "generate them with 'anojax synth --method realnet --checkpoint RUN --set "
                "scope=global --output DIR', then train with 'anojax train ... "
                "settings.painter=stored data.textures=DIR/CATEGORY/test/realnet'"
            )

    def _check_sizes(self) -> None:
        """Raise `SettingError` where numbers of channels do not fit each other."""
        self.features.check()
        sizes, levels = self.features.sizes, self.multipliers
        have = sum(sizes)
        for name in ("by_max", "by_mean"):
            if (requested := getattr(self, name)) > have:
                raise SettingError(
                    f"realnet: {name} is {requested}, but only {have} channels are "
                    f"selected; give at most {have}"
                )
        attended = levels[1:] or levels
        for m in sizes:
            if m % 2 or m // 2 % self.norm_groups:
                raise SettingError(
                    f"realnet: norm_groups is {self.norm_groups}, which does not divide "
                    f"half of the {m} channels of a block; choose another, or other "
                    "numbers of selected channels"
                )
            if any(m // 2 * k % self.head_channels for k in attended):
                raise SettingError(
                    f"realnet: head_channels is {self.head_channels}, which does not "
                    f"divide the {m // 2 * attended[0]} channels that attend where a "
                    f"block has {m}; choose a divisor"
                )


@partial(jax.jit, static_argnums=0)
def _selection_losses(
    task: RealnetDetectorTask, backbone: PyTree, key: Any, batch: Examples
) -> dict[str, Array]:
    out = task.draw(key, batch)
    # In float32 whatever the training computes in: small changes decide.
    both = jnp.concatenate([out.image, batch.images])
    maps = task.features.maps(backbone, both, jnp.float32)
    return {n: selection_losses(*jnp.split(x, 2), out.mask) for n, x in maps.items()}
