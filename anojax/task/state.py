"""What a training step works on: the state, a batch, and the mean over devices."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from anojax.pixels import in_unit_range
from anojax.types import Bank, Inputs, Leaf, PyTree, Synthesis, pytree

Metrics = dict[str, Array]


@pytree
class TrainState:
    """Everything that decides how training goes on.

    A checkpoint holds all of it but `frozen`, which is written once for a run.
    """

    params: PyTree
    """What gradients move, float32. An adversarial task has a dictionary with an entry
    for each player."""
    statistics: PyTree
    """What a step changes without a gradient: BatchNorm statistics, codebooks, pools."""
    opt_state: PyTree
    """Of the optimizer or optimizers."""
    ema: PyTree | None
    """Moving average of `params`, or of some of its entries; ``None`` without one."""
    step: Leaf
    """Updates done, int32 scalar."""
    frozen: PyTree = field(default_factory=dict)
    """Networks that nothing changes, by name; see `Task.components`."""
    context: PyTree = field(default_factory=dict)
    """What was measured over the images, by name; see `Task.contexts`."""

    replace = replace

    @property
    def averaged(self) -> PyTree:
        """`params` with the average in the place of every entry that has one."""
        if self.ema is None:
            return self.params
        if isinstance(self.ema, Mapping) and self.ema.keys() < self.params.keys():
            return {**self.params, **self.ema}
        return self.ema


@pytree
class Examples:
    """A batch: a leading axis B on everything but the bank."""

    inputs: Inputs
    """Images and masks as uint8."""
    ids: Leaf
    """``[B]`` uint32; different for every visit of an image."""
    bank: Bank | None = None
    """What each example draws from; the whole of it on every device."""
    precomputed: Synthesis | None = None
    """Precomputed anomalies; the synthesizer does not run then."""

    replace = replace

    @property
    def images(self) -> Float[Array, "b h w c"]:
        """The normal images in [0, 1]."""
        return in_unit_range(jnp.asarray(self.inputs.image))


@dataclass(frozen=True)
class Reduce:
    """What the devices that share a batch know together.

    Pass `axis` to ``flax.linen.BatchNorm(axis_name=...)``, so that statistics are
    those of the whole batch.

    >>> import jax.numpy as jnp
    >>> Reduce()({"loss": jnp.float32(2)})["loss"].item()
    2.0
    """

    axis: str | None = None
    """Name of the device axis; ``None`` when the program already sees everything."""

    def __call__(self, tree: PyTree) -> PyTree:
        """The mean of all floating-point leaves; others are the same everywhere."""
        if self.axis is None:
            return tree
        return jax.tree.map(
            lambda x: (
                lax.pmean(x, self.axis) if jnp.issubdtype(x.dtype, jnp.inexact) else x
            ),
            tree,
        )

    def sum(self, tree: PyTree) -> PyTree:
        """The sum over the devices, of numbers of any kind."""
        if self.axis is None:
            return tree
        return jax.tree.map(lambda x: lax.psum(x, self.axis), tree)

    def gather(self, tree: PyTree) -> PyTree:
        """The whole batch, in its order, from this device's share.

        For what is no mean over examples: a quantile, a nearest neighbor, a pool of
        images. Gradients pass through.

        Args:
          tree: arrays with a leading axis of this device's examples ``[B, ...]``.

        Returns:
          The same arrays of all devices, ``[B * devices, ...]``, equal everywhere.
        """
        if self.axis is None:
            return tree
        return jax.tree.map(lambda x: lax.all_gather(x, self.axis, tiled=True), tree)
