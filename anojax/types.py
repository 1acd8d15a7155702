"""The data that flows through anojax, and the conventions every function follows.

* **One image per function.** Batches are made by `anojax.batch`, nowhere else.
* **Images** are ``[H, W, C]`` float32 in [0, 1], C is 1 or 3 (RGB). Rows (y) come
  before columns (x); sizes are ``(h, w)``; pixel centers lie on integers.
* **Masks** are ``[H, W, 1]`` float32, exactly 0 or 1; 1 marks the defect. ``alpha`` is
  the soft version in [0, 1].
* **Angles** are radians, counter-clockwise on the screen; **areas** are fractions.
* Absent data is ``None``: its absence is part of the structure, so testing it costs
  nothing at run time, and a value that is present can be swept without recompiling.
"""

from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, dataclass_transform

import jax

PyTree = Any
# An array; Any because tree transformations put other things in its place.
Leaf = Any
T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def pytree(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass whose fields are children of a tree of JAX.

    Example:
      >>> import jax
      >>> @pytree
      ... class Point:
      ...     x: float
      ...     y: float = 0.0
      >>> jax.tree.map(lambda v: v + 1, Point(1.0))
      Point(x=2.0, y=1.0)
    """
    return jax.tree_util.register_dataclass(dataclass(frozen=True)(cls))


@pytree
class Controls:
    """What the user asks of the defect. ``None`` leaves the choice to the method.

    Every value is a traced float32 scalar: a sweep over it compiles once.

    Example:
      >>> Controls(severity=0.5, area=0.02)
      Controls(severity=0.5, area=0.02, count=None, aspect=None, angle=None)
    """

    severity: Leaf | None = None
    """Opacity of the defect in [0, 1]; 0 returns the image unchanged."""
    area: Leaf | None = None
    """Size in (0, 1], as a fraction of the foreground (of the image without one)."""
    count: Leaf | None = None
    """Number of defects, at least 1."""
    aspect: Leaf | None = None
    """Width divided by height, positive."""
    angle: Leaf | None = None
    """Rotation in radians."""


@pytree
class Exemplar:
    """A real defect: its image and where in it the defect lies.

    Example:
      >>> import numpy as np
      >>> Exemplar(np.zeros((8, 8, 3)), np.ones((8, 8, 1))).mask.sum()
      np.float64(64.0)
    """

    image: Leaf
    """``[H, W, C]`` float32 in [0, 1]."""
    mask: Leaf
    """``[H, W, 1]`` float32, 0 or 1."""


@pytree
class Inputs:
    """Everything a synthesizer may use for one image.

    Example:
      >>> import numpy as np
      >>> inputs = Inputs(image=np.zeros((8, 8, 3), np.float32))
      >>> inputs.replace(controls=Controls(severity=0.5)).controls.severity
      0.5
      >>> inputs.region is None
      True
    """

    image: Leaf | None = None
    """The normal image, ``[H, W, C]`` float32 in [0, 1]."""
    foreground: Leaf | None = None
    """The object, ``[H, W, 1]`` float32, 0 or 1. ``None``: the whole image."""
    region: Leaf | None = None
    """Where a defect may go, ``[H, W, 1]`` float32, 0 or 1. ``None``: anywhere."""
    source: Leaf | None = None
    """What the defect is made of, ``[H, W, C]`` float32 in [0, 1]: a texture or
    another normal image, as the method's card says."""
    source_foreground: Leaf | None = None
    """The object in `source`, ``[H, W, 1]`` float32, 0 or 1."""
    exemplar: Exemplar | None = None
    """A real defect to imitate."""
    label: Leaf | None = None
    """Defect class, int32 scalar."""
    text: Leaf | None = None
    """Encoded prompt, ``[T, D]`` float32."""
    features: PyTree | None = None
    """Features of the image, for methods that work in feature space: an array ``[h, w,
    D]``, or a tree of arrays. ``None``: the method extracts them (`Synthesizer.extract`).
    """
    controls: Controls = field(default_factory=Controls)
    """What the user asks of the defect."""

    replace = replace


@pytree
class Synthesis:
    """One synthetic anomaly."""

    image: Leaf | None
    """``[H, W, C]`` float32 in [0, 1]; ``None`` for methods in feature space."""
    mask: Leaf
    """Exactly the changed pixels, ``[H, W, 1]`` float32, 0 or 1; positions of the
    features, ``[h, w, 1]``, where there is no image."""
    alpha: Leaf
    """How strongly each pixel is affected, ``[H, W, 1]`` float32 in [0, 1]."""
    label: Leaf
    """Class of the defect, int32 scalar; 0 is normal."""
    anomalous: Leaf
    """Bool scalar: False when the draw came out empty."""
    features: PyTree | None = None
    """Perturbed features, for methods in feature space; like `Inputs.features`."""
    aux: dict[str, Leaf] = field(default_factory=dict)
    """Drawn parameters (small arrays), for analysis."""

    replace = replace


@pytree
class Bank:
    """What each example draws from, by its key: several kinds at once, or one.

    Example:
      >>> import numpy as np
      >>> Bank(np.zeros((16, 64, 64, 3), np.uint8)).foregrounds is None
      True
    """

    images: Leaf | None = None
    """``[N, H, W, C]`` uint8, for `Inputs.source`."""
    foregrounds: Leaf | None = None
    """Of `images`, ``[N, H, W, 1]`` uint8, 0 or 1 (255 counts as 1)."""
    exemplars: Exemplar | None = None
    """Real defects, image ``[M, H, W, C]`` and mask ``[M, H, W, 1]``, both uint8."""
    labels: Leaf | None = None
    """Of `exemplars`, ``[M]`` int32, at least 1. An example with a label draws among the
    exemplars of its own; one without gets that of its exemplar."""
    texts: Leaf | None = None
    """Encoded prompts, ``[P, T, D]`` float32, for `Inputs.text`."""

    replace = replace
