"""What a run makes: its jobs, and the rules by which a result becomes files."""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8, UInt16

from anojax.core import Synthesizer
from anojax.data.fit import fitted
from anojax.data.measure import Physical, physical
from anojax.data.mix import Mix
from anojax.data.naming import file_name
from anojax.data.native import to_native
from anojax.data.visible import RULE, mean_change, written_mask
from anojax.types import Bank, Controls

Plane = UInt8[np.ndarray, "h w 1"]
Pixels = UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"]

DRAWS = 20
"""Attempts before an image is given up as empty."""

FAINT = 8.0
"""Changes below this many gray levels at the working size may be lost when a defect is
enlarged to an image's own resolution; they are looked at there before they count."""


@dataclass(frozen=True)
class Loaded:
    """A normal image, ready for the device."""

    image: UInt8[np.ndarray, "h w c"]
    foreground: Plane | None = None
    region: Plane | None = None
    own_shape: tuple[int, int] | None = None
    """Height and width of the file, where it is known."""


@dataclass(frozen=True)
class Job:
    """One image to make."""

    index: int
    """Place in the manifest."""
    method: int
    """Place of the method in the plan."""
    image: int
    """Place of the normal image in natural order."""
    draw_of_image: int
    example_id: int
    first_draw: int = 0
    draws: int = DRAWS
    """Attempts allowed."""
    first_of_image: bool = False
    """Whether the normal image is written with it."""


@dataclass(frozen=True)
class Made:
    """What became of a job: an image and its mask, or a reason why not."""

    job: Job
    draw: int = 0
    normal: UInt8[np.ndarray, "h w c"] | None = None
    image: UInt8[np.ndarray, "h w c"] | None = None
    mask: Plane | None = None
    reason: str | None = None
    inputs_sha256: dict[str, str] = field(default_factory=dict)
    """Of the files that it was made from, by their paths."""
    own_shape: tuple[int, int] | None = None
    """Height and width of the normal image's file, where it is known."""
    drawn: dict[str, Any] = field(default_factory=dict)
    """What was drawn for it: controls from their ranges, and what the method tells."""


class Final(NamedTuple):
    """Images as they are written."""

    normal: Pixels
    image: Pixels
    mask: Plane


def unique_stems(images: Sequence[Path]) -> tuple[str, ...]:
    """A name for each image: its file's, made unique where two collide.

    >>> unique_stems([Path("a/0.png"), Path("b/0.png")])
    ('0', '0-1')
    """
    stems = [file_name(path.stem) for path in images]
    taken = set(stems)
    if len(taken) == len(stems):
        return tuple(stems)
    seen, unique = set(), []
    for number, stem in enumerate(stems):
        if stem in seen:
            stem = f"{stem}-{number}"
            while stem in taken:
                stem += "-"
        seen.add(stem)
        taken.add(stem)
        unique.append(stem)
    return tuple(unique)


@dataclass(frozen=True)
class Plan:
    """Everything that decides the pixels of a run, and nothing else."""

    methods: tuple[Synthesizer, ...]
    images: tuple[Path, ...]
    seed: int
    load: Callable[[int], Loaded] = field(repr=False)
    """Reads image number i; raises DataError if it cannot be used."""
    bank: Callable[[str, int], Bank] = field(repr=False)
    """What a need ("texture", "normal", "exemplar") draws from, by channels."""
    controls: Controls = field(default_factory=Controls)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Controls that are drawn anew for every image; `controls` has any value of them."""
    per_image: int = 1
    count: int | None = None
    """Images per method, going round the normal images; instead of `per_image`."""
    weights: tuple[float, ...] = ()
    """Of the methods, where each image is made by one of them; see `method_of`.
    Otherwise every method makes an image of each example, and `per_image` and `count`
    are numbers for each method."""
    keep_empty: bool = False
    prompts: tuple[str, ...] = ()
    """Of which each example draws one, for methods that need text."""
    label: int | None = None
    """Of the images' category, for methods that tell categories apart."""
    native: Callable[[int], Pixels] | None = field(default=None, repr=False)
    """Reads the own pixels of image number i; ``None`` keeps the working size."""
    fit: str = "stretch"
    """How images come to the working size; see `data.fit`."""
    mm_per_pixel: float | None = None
    """Side of a pixel of the files, for areas and boxes in mm."""
    bits: int = 16
    """Depth of the sensor, for own pixels of 16 bits."""
    mask_rule: str | None = RULE
    """``None``: masks as the methods give them, as in runs of earlier versions."""
    sources: tuple[str, ...] | None = None
    """Names of the images for the manifest; their paths when absent."""
    min_contrast: float = 1.0
    """Least mean change under the mask, in gray levels of 255."""
    normal_folder: str = "train/good"
    """Where the normal images stand in MVTec AD layout, below the category."""

    @property
    def each(self) -> int:
        """Images that are made of one example: one by each method, or one in all."""
        return 1 if self.weights else len(self.methods)

    def method_of(self, index: int) -> int:
        """The place of the method that makes an image, where methods have weights.

        See `data.mix`: the same on every machine, and in any order of the work.
        """
        return self._mix.place(index)

    @cached_property
    def _mix(self) -> Mix:
        return Mix(self.seed, self.weights)

    def images_of_methods(self) -> dict[str, int]:
        """How many images each method is to make."""
        names = [synth.name for synth in self.methods]
        if not self.weights:
            return dict.fromkeys(names, self.total // len(names))
        return dict(zip(names, self._mix.counts(self.total), strict=True))

    @property
    def draws_per_image(self) -> int:
        """Most images that one method makes from one normal image."""
        if self.count is None:
            return self.per_image
        return -(-self.count // len(self.images))

    def draws_of(self, image: int) -> int:
        """Images that each method makes from this normal image."""
        if self.count is None:
            return self.per_image
        whole, rest = divmod(self.count, len(self.images))
        return whole + (image < rest)

    def first_job(self, image: int) -> int:
        """Number of jobs before those of this image."""
        if self.count is None:
            return image * self.per_image * self.each
        whole, rest = divmod(self.count, len(self.images))
        return (image * whole + min(image, rest)) * self.each

    @property
    def total(self) -> int:
        """Number of images to make."""
        return self.first_job(len(self.images))

    def jobs(self, start: int = 0) -> Iterator[Job]:
        """The jobs from number `start` on: image by image, so that each is decoded
        once."""
        places = range(len(self.images))
        first = max(0, bisect_right(places, start, key=self.first_job) - 1)
        for image in places[first:]:
            index, each = self.first_job(image), self.each
            skipped = max(0, start - index) // each
            index += skipped * each
            for draw in range(skipped, self.draws_of(image)):
                for place in range(each):
                    if index >= start:
                        yield self._job(index, place, image, draw)
                    index += 1

    def _job(self, index: int, place: int, image: int, draw: int) -> Job:
        return Job(
            index,
            self.method_of(index) if self.weights else place,
            image,
            draw,
            example_id=image * self.draws_per_image + draw,
            draws=1 if self.keep_empty else DRAWS,
            first_of_image=place == draw == 0,
        )

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """A name for each image."""
        return unique_stems(self.images)

    def drawn(self, job: Job, draw: int) -> dict[str, float]:
        """The values of the controls that have a range, for one attempt: uniform, and
        whole numbers where a number of defects is meant."""
        values = {}
        for name, (low, high) in self.ranges.items():
            what = f"{self.seed} {self.methods[job.method].name} {job.example_id}"
            # A hash and no generator: the same on every machine and in every version.
            found = hashlib.sha256(f"{what} {draw} {name}".encode()).digest()[:8]
            share = int.from_bytes(found, "big") / 2**64
            if name == "count":
                values[name] = float(low + int(share * (high - low + 1)))
            else:
                values[name] = low + share * (high - low)
        return values

    def source(self, image: int) -> str:
        """Under which name the manifest mentions a normal image."""
        return str(self.images[image]) if self.sources is None else self.sources[image]

    def final(self, made: "Made") -> "Final":
        """The images of a result as they are written, at their own resolution if that
        is requested."""
        if self.native is None:
            return Final(made.normal, made.image, made.mask)
        own = self.native(made.job.image)
        way = fitted(own.shape[:2], made.mask.shape[:2], self.fit)
        small = (one[way.target] for one in (made.normal, made.image, made.mask))
        part, marked = to_native(own[way.source], *small, self.bits)
        image, mask = own.copy(), np.zeros((*own.shape[:2], 1), np.uint8)
        image[way.source], mask[way.source] = part, marked
        return Final(own, image, self.mask(made.job, own, image, mask))

    def in_mm(self, made: "Made", mask: Plane) -> Physical:
        """Area and box of a mask as it is written, in mm; nothing where the side of a
        pixel is not given.

        A pixel of the working size stands for more of the file, or less, and where an
        image was stretched not for the same in both directions.
        """
        if self.mm_per_pixel is None or made.own_shape is None:
            return Physical(None, None)
        sides = (1.0, 1.0)
        if self.native is None:
            way = fitted(made.own_shape, (mask.shape[0], mask.shape[1]), self.fit)
            sides = way.file_pixels
        return physical(
            mask, sides[0] * self.mm_per_pixel, sides[1] * self.mm_per_pixel
        )

    def mask(self, job: Job, normal: Pixels, image: Pixels, mask: Plane) -> Plane:
        """The mask of an image, by the plan's rule; empty where nothing changed."""
        if self.mask_rule is None:
            return mask
        return written_mask(self.methods[job.method], normal, image, mask)

    def shows(self, made: "Made") -> bool:
        """Whether the image as it is written is anomalous, and plainly enough."""
        if self.mask_rule is None or not made.mask.any():
            return bool(made.mask.any())
        least, clear = self.min_contrast, max(FAINT, 2 * self.min_contrast)
        levels = 255 * mean_change(made.normal, made.image, made.mask)
        if levels < least or self.native is None or levels >= clear:
            return levels >= least
        final = self.final(made)
        return bool(final.mask.any()) and 255 * mean_change(*final, self.bits) >= least

    def gave_up(self, job: Job, attempts: int) -> str:
        """Why there is no image after that many attempts."""
        name, least = self.methods[job.method].name, self.min_contrast
        what = f"{name} came out empty"
        if self.mask_rule is not None:
            what += f", or changed less than {least:g} of 255 gray levels,"
        return f"{what} in {attempts} draws"

    def stem(self, job: Job) -> str:
        """The name of a job's files, without ending."""
        stem = self.stems[job.image]
        if self.draws_per_image == 1:
            return stem
        digits = max(3, len(str(self.draws_per_image - 1)))
        return f"{stem}_{job.draw_of_image:0{digits}}"
