"""Synthesizers made of synthesizers: sequences, mixtures, and exchanged parts.

The results are ordinary synthesizers: they batch, jit and compare by value. The
exchanges keep the name of their base, hence its keys, so that a comparison with and
without the exchange is paired: everything that was not exchanged draws the same.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from anojax.core import Card, Layered, Synthesizer
from anojax.errors import AnojaxError
from anojax.ops import poisson
from anojax.ops.blend import allowed, local_synthesis
from anojax.ops.branch import grouped_switch
from anojax.random import stream
from anojax.types import Inputs, PyTree


def chain(*synths: Synthesizer) -> Synthesizer:
    """One defect after the other on the same image; the mask is their union.

    Example:
      >>> import anojax
      >>> chain(anojax.get("destseg")(), anojax.get("cutpaste")()).needs
      ('texture',)
    """
    return _Chain(_several(synths, "chain"))


def one_of(
    *synths: Synthesizer, weights: tuple[float, ...] | None = None
) -> Synthesizer:
    """One of several methods per image, drawn with `weights` (default: equal).

    Each image costs its own method only, on accelerators too.

    Raises:
      AnojaxError: not as many weights as methods, a negative one, or all zero.

    Example:
      >>> import anojax
      >>> both = anojax.get("destseg")(), anojax.get("cutpaste")()
      >>> synth = one_of(*both, weights=(3, 1))
      >>> synth.weights
      (0.75, 0.25)
    """
    synths = _several(synths, "one_of")
    weights = weights or (1.0,) * len(synths)
    if len(weights) != len(synths) or min(weights) < 0 or sum(weights) <= 0:
        raise AnojaxError(
            f"one_of: weights are {weights}; give {len(synths)} numbers, none "
            "negative, not all zero"
        )
    return _OneOf(synths, tuple(w / sum(weights) for w in weights))


def maybe(synth: Synthesizer, probability: float) -> Synthesizer:
    """`synth` with a probability, else the image unchanged (label 0, aux of zeros).

    Raises:
      AnojaxError: the probability is outside [0, 1].

    Example:
      >>> import anojax
      >>> maybe(anojax.get("cutpaste")(), 0.5).probability
      0.5
    """
    if not 0 <= probability <= 1:
        raise AnojaxError(f"maybe: probability is {probability}; give 0 to 1")
    return _Maybe(synth, float(probability))


def within(synth: Synthesizer, box: tuple[float, float, float, float]) -> Synthesizer:
    """Defects only inside a box (top, left, bottom, right), as fractions of the sides.

    For regions of any other shape give `Inputs.region`.

    Raises:
      AnojaxError: the box is empty or reaches beyond the image.

    Example:
      >>> import anojax
      >>> within(anojax.get("cutpaste")(), (0.0, 0.5, 1.0, 1.0)).box
      (0.0, 0.5, 1.0, 1.0)
    """
    top, left, bottom, right = box
    if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
        raise AnojaxError(
            f"within: box is {box}; give top < bottom and left < right from 0 to 1"
        )
    return _Within(synth, (float(top), float(left), float(bottom), float(right)))


def with_shape(base: Synthesizer, shape: Synthesizer) -> Synthesizer:
    """`base`'s appearance in the shapes of another method.

    Raises:
      AnojaxError: `base` draws shape and source together, so they cannot be parted.

    Example:
      >>> import anojax
      >>> with_shape(anojax.get("destseg")(), anojax.get("cutpaste")()).name
      'destseg'
    """
    return _WithShape(_layered(base, "with_shape"), shape)


def with_source(base: Synthesizer, source: Synthesizer) -> Synthesizer:
    """`base`'s shapes with the appearance of another, layered method.

    Example:
      >>> import anojax
      >>> with_source(anojax.get("cutpaste")(), anojax.get("destseg")()).needs
      ('texture',)
    """
    return _WithSource(base, _layered(source, "with_source"))


def with_blend(
    base: Synthesizer, blend: Literal["poisson", "poisson_mixed"]
) -> Synthesizer:
    """`base`'s defect, cloned into the image by its gradients, without a seam.

    Raises:
      AnojaxError: an unknown blend.

    Example:
      >>> import anojax
      >>> with_blend(anojax.get("destseg")(), "poisson").name
      'destseg'
    """
    if blend not in ("poisson", "poisson_mixed"):
        raise AnojaxError(
            f"with_blend: blend is {blend!r}; choose poisson or poisson_mixed"
        )
    return _WithBlend(_layered(base, "with_blend"), blend == "poisson_mixed")


def _layered(synth: Synthesizer, what: str) -> Layered:
    if not isinstance(synth, Layered):
        # The registry imports methods; composing must not import it at load time.
        from anojax import registry

        able = [n for n in registry.names() if issubclass(registry.get(n), Layered)]
        raise AnojaxError(
            f"{what}: {synth.name} draws shape and source together; methods drawn in "
            f"layers: {', '.join(able)}"
        )
    return synth


def _several(synths: tuple[Synthesizer, ...], what: str) -> tuple[Synthesizer, ...]:
    if not synths:
        raise AnojaxError(f"{what}: give at least one synthesizer")
    return tuple(synths)


@dataclass(frozen=True)
class _Composite(Synthesizer):
    """What all compositions share: a card and parameters made of their parts'."""

    def _parts(self) -> tuple[Synthesizer, ...]:
        raise AssertionError(f"{type(self).__name__} must list its parts")

    @property
    def card(self) -> Card:  # type: ignore[override]
        cards = [p.card for p in self._parts()]
        common = set(cards[0].controls).intersection(*(c.controls for c in cards))
        return Card(
            title=f"{type(self).__name__.strip('_')} of "
            + ", ".join(p.name for p in self._parts()),
            authors="anojax",
            venue="composition",
            year=max(c.year for c in cards),
            url=cards[0].url,
            paradigm=cards[0].paradigm,
            family=cards[0].family,
            level=cards[0].level,
            controls=tuple(c for c in cards[0].controls if c in common),
            fidelity="adapted",
        )

    @property
    def name(self) -> str:
        kind = type(self).__name__.strip("_").lower()
        return f"{kind}({','.join(p.name for p in self._parts())})"

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(n for p in self._parts() for n in p.needs))

    def init(self, key, inputs: Inputs) -> PyTree:
        keys = jax.random.split(key, len(self._parts()))
        return tuple(
            p.init(k, inputs) for p, k in zip(self._parts(), keys, strict=True)
        )


def _of(params: PyTree, place: int) -> PyTree:
    """Parameters of one part; ``{}`` where none was given for any, as for a method."""
    return params[place] if params else {}


@dataclass(frozen=True)
class _Chain(_Composite):
    synths: tuple[Synthesizer, ...]

    def _parts(self):
        return self.synths

    def synthesize(self, params, key, inputs):
        out = self.synths[0].apply(_of(params, 0), stream(key, "0"), inputs)
        for i, synth in enumerate(self.synths[1:], 1):
            after = synth.apply(
                _of(params, i), stream(key, str(i)), inputs.replace(image=out.image)
            )
            out = after.replace(
                mask=jnp.maximum(out.mask, after.mask),
                alpha=jnp.maximum(out.alpha, after.alpha),
                label=jnp.maximum(out.label, after.label),
                anomalous=out.anomalous | after.anomalous,
                aux={},
            )
        return out


@dataclass(frozen=True)
class _OneOf(_Composite):
    synths: tuple[Synthesizer, ...]
    weights: tuple[float, ...]

    def _parts(self):
        return self.synths

    def synthesize(self, params, key, inputs):
        def branch(i):
            # Branches must agree in structure; aux differs between methods.
            return lambda: (
                self.synths[i].apply(_of(params, i), stream(key, str(i)), inputs)
            ).replace(aux={})

        cumulative = jnp.cumsum(jnp.asarray(self.weights, jnp.float32))
        u = jax.random.uniform(stream(key, "which"))
        which = jnp.clip(
            jnp.searchsorted(cumulative, u, side="right"), 0, len(self.synths) - 1
        ).astype(jnp.int32)
        out = grouped_switch(which, [branch(i) for i in range(len(self.synths))])
        return out.replace(aux={"which": which})


@dataclass(frozen=True)
class _Maybe(_Composite):
    synth: Synthesizer
    probability: float

    def _parts(self):
        return (self.synth,)

    def synthesize(self, params, key, inputs):
        keep = jax.random.uniform(stream(key, "maybe")) < self.probability
        make = partial(self.synth.apply, _of(params, 0), key, inputs)
        nothing = jax.tree.map(
            lambda v: jnp.zeros(v.shape, v.dtype), jax.eval_shape(make)
        )
        return grouped_switch(keep, [lambda: nothing.replace(image=inputs.image), make])


@dataclass(frozen=True)
class _Within(_Composite):
    synth: Synthesizer
    box: tuple[float, float, float, float]

    def _parts(self):
        return (self.synth,)

    @property
    def name(self) -> str:
        return self.synth.name

    def synthesize(self, params, key, inputs):
        h, w, _ = inputs.image.shape
        top, left, bottom, right = self.box
        rows = (jnp.arange(h) >= round(top * h)) & (jnp.arange(h) < round(bottom * h))
        cols = (jnp.arange(w) >= round(left * w)) & (jnp.arange(w) < round(right * w))
        box = (rows[:, None] & cols[None, :])[..., None].astype(jnp.float32)
        region = box if inputs.region is None else box * inputs.region
        return self.synth.apply(_of(params, 0), key, inputs.replace(region=region))


@dataclass(frozen=True)
class _WithShape(_Composite):
    base: Layered
    shape: Synthesizer

    def _parts(self):
        return (self.base, self.shape)

    @property
    def name(self) -> str:
        return self.base.name

    def synthesize(self, params, key, inputs):
        # The severity belongs to the appearance; a shape at severity 0 would be empty.
        controls = inputs.controls
        plain = inputs.replace(controls=type(controls)(area=controls.area))
        mask = self.shape.apply(_of(params, 1), key, plain).mask
        return self.base.generate(_of(params, 0), key, inputs, mask)


@dataclass(frozen=True)
class _WithSource(_Composite):
    base: Synthesizer
    source: Layered

    def _parts(self):
        return (self.base, self.source)

    @property
    def name(self) -> str:
        return self.base.name

    def synthesize(self, params, key, inputs):
        return _WithShape(self.source, self.base).synthesize(
            (_of(params, 1), _of(params, 0)), key, inputs
        )


@dataclass(frozen=True)
class _WithBlend(_Composite):
    base: Layered
    mixed: bool

    def _parts(self):
        return (self.base,)

    @property
    def name(self) -> str:
        return self.base.name

    def synthesize(self, params, key, inputs):
        mask = self.base.shape(_of(params, 0), key, inputs)
        where = allowed(inputs)
        mask = mask if where is None else mask * where
        # Generated everywhere: the gradients across the outline must be the source's.
        everywhere = inputs.replace(foreground=None, region=None)
        generated = self.base.generate(
            _of(params, 0), key, everywhere, jnp.ones_like(mask)
        )
        new = poisson.clone_masked(
            generated.image, inputs.image, mask, mixed=self.mixed
        )
        return local_synthesis(
            inputs, new, mask, alpha=generated.alpha, severity="done"
        ).replace(aux=generated.aux)
