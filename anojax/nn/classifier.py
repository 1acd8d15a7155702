"""A classifier whose embedding is what counts: a ResNet with a projection head."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from anojax.nn.blocks import Network, ProjectionHead
from anojax.nn.resize import resize_bilinear
from anojax.nn.resnet import ResNet, imagenet_normalize
from anojax.types import PyTree


class EmbeddingClassifier(Network):
    """Embedding (``pooled``), the map that it is the mean of (``layer4``), ``logits``.

    Takes images in [0, 1] and normalizes them as for ImageNet.
    """

    classes: int
    blocks: tuple[int, int, int, int] = (2, 2, 2, 2)
    """Residual blocks per stage; those of ResNet-18."""
    width: int = 64
    """Channels of the first stage; the embedding has eight times as many."""
    head_layers: int = 1
    """Layers of the head that are as wide as the embedding."""
    head_width: int = 128
    """Width of the layer before the logits."""

    @nn.compact
    def __call__(
        self, image: Float[Array, "b h w c"], train: bool
    ) -> dict[str, Float[Array, "b ..."]]:
        found = ResNet(
            blocks=self.blocks,
            width=self.width,
            taps=("layer4", "pooled"),
            name="backbone",
            dtype=self.dtype,
            axis_name=self.axis_name,
        )(imagenet_normalize(image), train)
        return {**found, "logits": self.head("head")(found["pooled"], train)}

    @nn.nowrap
    def head(self, name: str | None = None) -> ProjectionHead:
        """The part behind the embedding; its variables are under ``head``."""
        return ProjectionHead(
            classes=self.classes,
            depth=self.head_layers,
            features=self.head_width,
            dtype=self.dtype,
            axis_name=self.axis_name,
            name=name,
        )


def classify(
    network: EmbeddingClassifier, variables: PyTree, images: Float[Array, "b h w c"]
) -> dict[str, Float[Array, "b ..."]]:
    """What the trained network finds; `variables` as `Task.variables` gives them."""
    weights = {"params": variables["params"], "batch_stats": variables["statistics"]}
    return network.apply(weights, images, False)


def grad_cam(
    network: EmbeddingClassifier,
    variables: PyTree,
    found: dict[str, Float[Array, "1 ..."]],
    shape: tuple[int, int],
) -> Float[Array, "h w"]:
    """Grad-CAM of the log-odds of any class but the first, resized to `shape`.

    `found` is what `classify` gave for one image.
    """
    own = {
        "params": variables["params"]["head"],
        "batch_stats": variables["statistics"]["head"],
    }

    def log_odds(pooled):
        logits = network.head().apply(own, pooled, False)[0]
        return jax.nn.logsumexp(logits[1:]) - logits[0]

    # The embedding is a mean over places: one gradient serves them all.
    slope = jax.grad(log_odds)(found["pooled"])
    cam = jnp.sum(found["layer4"] * slope[:, None, None], -1, keepdims=True)
    return resize_bilinear(nn.relu(cam), shape)[0, ..., 0]


def l2_normalize(features: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """Every row divided by its length; rows of zeros stay."""
    length = jnp.sqrt(jnp.sum(features**2, -1, keepdims=True))
    return features / jnp.maximum(length, 1e-12)
