"""CutPaste: a piece of the image, slightly recolored, pasted somewhere else."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key, UInt8

from anojax.core import Card, Synthesizer, hp
from anojax.detector import Detector
from anojax.errors import SettingError
from anojax.methods.handcrafted.cutpaste import pieces
from anojax.nn import classifier, windows
from anojax.nn.density import fit_gaussian, mahalanobis
from anojax.nn.init import init_network
from anojax.ops import color, placement
from anojax.ops.blend import allowed, local_synthesis, requested_area_px
from anojax.ops.branch import grouped_switch
from anojax.optim import Optimizer
from anojax.random import stream
from anojax.task import Examples, GradientTask, Metrics, Reduce, TrainState
from anojax.types import Inputs, PyTree, Synthesis

PATCH, SCAR = 1, 2
_REFERENCE_SIDE_PX = 256


@dataclass(frozen=True)
class Cutpaste(Synthesizer):
    """Pastes a box of the image, or a thin turned scar, at another place.

    `Controls.area` and `aspect` replace the drawn size of patch and scar, `angle` turns
    either; a box that does not fit is cut at the border. Label 1 is a patch, 2 a scar,
    which is what the three-way task of the paper learns to tell apart.
    """

    card: ClassVar[Card] = Card(
        title="CutPaste: Self-Supervised Learning for Anomaly Detection and "
        "Localization",
        authors="Chun-Liang Li, Kihyuk Sohn, Jinsung Yoon, Tomas Pfister",
        venue="CVPR",
        year=2021,
        url="https://arxiv.org/abs/2104.04015",
        paradigm="handcrafted",
        family="self_contained",
        level="image",
        controls=("severity", "area", "aspect", "angle"),
        code_url="https://github.com/Runinho/pytorch-cutpaste",
        code_license="none stated (unofficial)",
        fidelity="statistics",
        differences=(
            "Jitter and translation of the whole normal image belong to training.",
            "A scar keeps inside the image; the public code swaps its height and "
            "width when it draws the place.",
            "The size of a scar in pixels holds for images of 256 pixels and scales "
            "with the shorter side.",
            "Color jitter is not rounded to 8 bits between its steps.",
        ),
        unverified=(
            "The paper's density over aspect ratios: aspect_law has both readings.",
        ),
    )

    variant: str = hp(
        "normal",
        "what is pasted: a patch, a thin scar, or either with probability one half",
        choices=("normal", "scar", "union"),
    )
    area: tuple[float, float] = hp(
        (0.02, 0.15), "area of a patch as a fraction of the image", low=0.001, high=1
    )
    aspect: tuple[float, float] = hp(
        (0.3, 1 / 0.3), "width / height of a patch", low=0.05, high=20
    )
    aspect_law: str = hp(
        "log_uniform",
        "density of the aspect: log-uniform, or a coin between below 1 and above 1, "
        "each uniform",
        choices=("log_uniform", "two_interval"),
    )
    scar_width_px: tuple[float, float] = hp(
        (2.0, 16.0), "width of a scar in pixels, at a side of 256", low=1, high=256
    )
    scar_length_px: tuple[float, float] = hp(
        (10.0, 25.0), "length of a scar in pixels, at a side of 256", low=1, high=256
    )
    scar_rotation_deg: float = hp(
        45.0, "a scar turns by up to this angle to either side", low=0, high=180
    )
    jitter: float = hp(
        0.1, "color jitter: brightness, contrast, saturation, hue", low=0, high=0.5
    )

    def synthesize(
        self, params: PyTree, key: Key[Array, ""], inputs: Inputs
    ) -> Synthesis:
        del params
        if self.variant != "union":
            piece = self._scar if self.variant == "scar" else self._patch
            new, mask = self._paste(key, inputs, piece(stream(key, "shape"), inputs))
            label = SCAR if self.variant == "scar" else PATCH
            return local_synthesis(inputs, new, mask, label=label)

        def branch(piece):
            return lambda: self._paste(key, inputs, piece(stream(key, "shape"), inputs))

        scar = jax.random.bernoulli(stream(key, "variant"))
        new, mask = grouped_switch(scar, [branch(self._patch), branch(self._scar)])
        return local_synthesis(inputs, new, mask, label=jnp.where(scar, SCAR, PATCH))

    def _patch(self, key: Key[Array, ""], inputs: Inputs) -> pieces.Piece:
        shape = h, w = inputs.image.shape[:2]
        requested, size = inputs.controls, h * w
        u = jax.random.uniform(key, (3,))
        area = (
            pieces.between(u[0], self.area) * size
            if requested.area is None
            else requested_area_px(inputs)
        )
        aspect = (
            self._aspect(u[1], u[2])
            if requested.aspect is None
            else pieces.as_float(requested.aspect)
        )
        height, width = placement.box_sides(area, aspect, shape)
        windows = (shape,)
        if requested.area is requested.aspect is requested.angle is None:
            windows = pieces.windows(self.area[1] * size, self.aspect, shape)
        angle = None if requested.angle is None else pieces.as_float(requested.angle)
        return pieces.Piece(height, width, angle, windows)

    def _aspect(self, coin: Float[Array, ""], u: Float[Array, ""]) -> Float[Array, ""]:
        low, high = self.aspect
        if self.aspect_law == "log_uniform":
            return jnp.exp(pieces.between(u, (math.log(low), math.log(high))))
        middle = min(max(1.0, low), high)
        return jnp.where(
            coin < 0.5,
            pieces.between(u, (low, middle)),
            pieces.between(u, (middle, high)),
        )

    def _scar(self, key: Key[Array, ""], inputs: Inputs) -> pieces.Piece:
        shape = inputs.image.shape[:2]
        requested, scale = inputs.controls, min(shape) / _REFERENCE_SIDE_PX
        u = jax.random.uniform(key, (3,))
        width = jnp.round(pieces.between(u[0], self.scar_width_px) * scale)
        length = jnp.round(pieces.between(u[1], self.scar_length_px) * scale)
        width, length = jnp.maximum(width, 1.0), jnp.maximum(length, 1.0)
        area = width * length if requested.area is None else requested_area_px(inputs)
        aspect = (
            width / length
            if requested.aspect is None
            else pieces.as_float(requested.aspect)
        )
        if requested.area is requested.aspect is None:
            height, width = length.astype(jnp.int32), width.astype(jnp.int32)
            longest = math.hypot(self.scar_width_px[1], self.scar_length_px[1])
            room = math.ceil(longest * scale) + 3
            windows = ((min(shape[0], room), min(shape[1], room)),)
        else:
            height, width = placement.box_sides(area, aspect, shape)
            windows = (shape,)
        limit = math.radians(self.scar_rotation_deg)
        angle = pieces.between(u[2], (-limit, limit))
        angle = angle if requested.angle is None else pieces.as_float(requested.angle)
        return pieces.Piece(height, width, angle, windows)

    def _paste(
        self, key: Key[Array, ""], inputs: Inputs, piece: pieces.Piece
    ) -> tuple[Float[Array, "h w c"], Float[Array, "h w 1"]]:
        """The image with the recolored piece in it, and where the piece lies."""
        shape = inputs.image.shape[:2]
        u = jax.random.uniform(stream(key, "source"), (2,))
        source = [
            pieces.uniform_index(v, full - side)
            for v, full, side in zip(u, shape, piece[:2], strict=True)
        ]
        extent = pieces.upright_extent(piece)
        place = pieces.choose_place(
            stream(key, "place"), allowed(inputs), extent, shape
        )
        paste = partial(self._paste_in, key, inputs.image, piece, source, extent, place)
        if len(piece.windows) == 1:
            return paste(piece.windows[0])
        branches = [partial(paste, window) for window in piece.windows]
        return grouped_switch(pieces.first_that_holds(piece), branches)

    def _paste_in(self, key, image, piece, source, extent, place, window):
        shape = image.shape[:2]
        corner = [
            jnp.clip(p, 0, full - room)
            for p, full, room in zip(place, shape, window, strict=True)
        ]
        row, column = pieces.within_piece(piece, window, extent, place, corner)
        inside = (
            (row >= 0) & (row < piece.height) & (column >= 0) & (column < piece.width)
        )
        mask = inside.astype(jnp.float32)[..., None]
        patch = pieces.fetch(image, source[0] + row, source[1] + column)
        patch = color.jitter(
            stream(key, "jitter"),
            patch,
            brightness=self.jitter,
            contrast=self.jitter,
            saturation=self.jitter,
            hue=self.jitter,
            weights=mask,
        )
        blank = jnp.zeros((*shape, 1), jnp.float32)
        return (
            lax.dynamic_update_slice(image, patch, (*corner, 0)),
            lax.dynamic_update_slice(blank, mask, (*corner, 0)),
        )


@dataclass(frozen=True)
class CutpasteTask(GradientTask):
    """A residual network learns to tell normal images from those with a defect.

    Differs: the whole image is not shifted; the paper does not say by how much.
    """

    optimizer: Optimizer = Optimizer(
        "sgd", 0.03, "cosine", weight_decay=3e-5, momentum=0.9
    )
    objective: str = hp(
        "3way",
        "classes: normal, patch and scar, all three of every image; or binary: "
        "normal and the synthesizer's variant",
        choices=("3way", "binary"),
    )
    augment: float = hp(
        0.1, "color jitter of the whole image before anything", low=0, high=0.5
    )
    blocks: tuple[int, int, int, int] = hp(
        (2, 2, 2, 2), "residual blocks per stage; the default is ResNet-18", low=1
    )
    width: int = hp(64, "channels of the first stage", low=1)
    head_layers: int = hp(1, "layers as wide as the embedding in the head", low=0)
    head_width: int = hp(128, "width of the head's last layer", low=1)
    crop_frac: float | None = hp(
        None,
        "learn and detect on windows of this fraction of both sides (0.25 in the "
        "paper, for localization); none: on whole images",
        low=0.05,
        high=1.0,
    )
    stride_frac: float = hp(
        1 / 64,
        "distance between windows when detecting, as a fraction of the side",
        low=0.001,
        high=1.0,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.objective == "3way" and self.synth.variant != "normal":
            raise SettingError(
                f"cutpaste: variant is '{self.synth.variant}', but objective 3way draws "
                "a patch and a scar of every image; leave variant out, or use "
                "objective: binary"
            )

    def network(self, **options: Any) -> classifier.EmbeddingClassifier:
        """The classifier of these settings."""
        return classifier.EmbeddingClassifier(
            classes=3 if self.objective == "3way" else 2,
            blocks=self.blocks,
            width=self.width,
            head_layers=self.head_layers,
            head_width=self.head_width,
            **options,
        )

    def init_networks(
        self, key: Key[Array, ""], batch: Examples
    ) -> tuple[PyTree, PyTree]:
        made = init_network(self.network(), key, batch.images[:1], False)
        return made["params"], made["batch_stats"]

    def loss(
        self,
        params: PyTree,
        state: TrainState,
        key: Key[Array, ""],
        batch: Examples,
        reduce: Reduce,
    ) -> tuple[Float[Array, ""], tuple[PyTree, Metrics]]:
        images, labels = self.examples(key, batch)
        network = self.network(dtype=self.compute_dtype, axis_name=reduce.axis)
        found, new = network.apply(
            {"params": params, "batch_stats": state.statistics},
            images,
            True,
            mutable=["batch_stats"],
        )
        logits = found["logits"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        right = (jnp.argmax(logits, -1) == labels).astype(jnp.float32)
        return losses.mean(), (new["batch_stats"], {"accuracy": right.mean()})

    def examples(
        self, key: Key[Array, ""], batch: Examples
    ) -> tuple[Float[Array, "n h w c"], Int[Array, " n"]]:
        """What the network sees in a step, and its classes: first the normal images,
        then their patches, then their scars.

        Raises:
          SettingError: windows are cut before the defect, and anomalies are precomputed.
        """
        if batch.precomputed is None:
            batch = self._augmented(key, batch)
        elif self.crop_frac is not None:
            raise SettingError(
                "cutpaste: crop_frac cuts windows before the defect is put in, but "
                "precomputed anomalies are whole images; leave one of them out"
            )
        drawn = [self.draw(key, batch)]
        three = self.objective == "3way"
        if three and batch.precomputed is None:
            scars = replace(self.synth, variant="scar")
            drawn += [replace(self, synth=scars, objective="binary").draw(key, batch)]
        labels = [d.label if three else d.anomalous.astype(jnp.int32) for d in drawn]
        return (
            jnp.concatenate([batch.images, *(d.image for d in drawn)]),
            jnp.concatenate([jnp.zeros_like(labels[0]), *labels]),
        )

    def detector(self) -> "CutpasteDetector":
        return CutpasteDetector(self.network(), self.crop_frac, self.stride_frac)

    def _augmented(self, key: Key[Array, ""], batch: Examples) -> Examples:
        """The normal images with their jitter, cut to windows if requested."""
        kinds = ("brightness", "contrast", "saturation", "hue")
        strength = dict.fromkeys(kinds, self.augment)

        def one(key, inputs):
            image = color.jitter(stream(key, "jitter"), inputs.image, **strength)
            spatial = (image, inputs.foreground, inputs.region)
            if self.crop_frac is not None:
                window = windows.window_size(image.shape[:2], self.crop_frac)
                spatial = windows.random_window(stream(key, "crop"), spatial, window)
            image, foreground, region = spatial
            return inputs.replace(image=image, foreground=foreground, region=region)

        keys = self.example_keys(key, batch, "augment")
        inputs = batch.inputs.replace(image=batch.images)
        return batch.replace(inputs=jax.vmap(one)(keys, inputs))


@dataclass(frozen=True)
class CutpasteDetector(Detector):
    """Distance of the embedding from a Gaussian density of normal embeddings.

    On whole images the map is Grad-CAM of the log-odds of any anomaly; on windows (of
    `crop_frac`) it is their distances, spread, and the largest of them is the score.
    """

    network: classifier.EmbeddingClassifier
    crop_frac: float | None = None
    stride_frac: float = 1 / 64

    def calibrate(
        self, variables: PyTree, images: Iterable[UInt8[Any, "b h w c"]]
    ) -> PyTree:
        found = [np.asarray(self._embeddings(variables, batch)) for batch in images]
        return {**variables, "density": fit_gaussian(np.concatenate(found))}

    def score(
        self, variables: PyTree, image: Float[Array, "h w c"]
    ) -> tuple[Float[Array, "h w"], Float[Array, ""]]:
        shape = image.shape[:2]
        if self.crop_frac is None:
            found = classifier.classify(self.network, variables, image[None])
            where = classifier.grad_cam(self.network, variables, found, shape)
            return where, self._distances(variables, found)[0]
        window = windows.window_size(shape, self.crop_frac)
        strides = windows.window_size(shape, self.stride_frac)
        starts = windows.window_starts(shape, window, strides)

        def of_row(y):
            crops = windows.gather_windows(image, y, starts[1], window)
            found = classifier.classify(self.network, variables, crops)
            return self._distances(variables, found)

        # Row by row: all windows at once would fill the memory.
        grid = lax.map(of_row, jnp.asarray(starts[0]))
        return windows.gaussian_upsample(grid, shape, window, starts), grid.max()

    @partial(jax.jit, static_argnums=0)
    def _embeddings(self, variables, batch):
        images = jnp.asarray(batch, jnp.float32) / 255
        if self.crop_frac is not None:
            window = windows.window_size(images.shape[1:3], self.crop_frac)
            images = windows.tile_windows(images, window)
        return classifier.l2_normalize(
            classifier.classify(self.network, variables, images)["pooled"]
        )

    def _distances(self, variables, found):
        each = jax.vmap(lambda feature: mahalanobis(variables["density"], feature))
        return each(classifier.l2_normalize(found["pooled"]))
