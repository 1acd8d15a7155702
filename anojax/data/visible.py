"""Whether an image shows a defect: decided by its pixels as they are written.

A method works with real numbers; a change of less than half a gray level is rounded
away when the image is written, and then there is no defect, whatever the method says.
Label, mask and contrast of a run come from the functions here.
"""

import numpy as np
from jaxtyping import Bool, UInt8, UInt16

from anojax.core import Synthesizer
from anojax.data.native import highest

Pixels = UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"]
Mask = UInt8[np.ndarray, "h w 1"]

RULE = "written"
"""The rule of new runs, as `mask_rule` in their config.yaml: masks hold the pixels that
changed in the file. Runs that were made before it existed have none there: their masks
are the methods' own, and are made again as such."""


def changed(normal: Pixels, image: Pixels) -> Bool[np.ndarray, "h w 1"]:
    """Where at least one channel differs."""
    differs = normal[..., :1] != image[..., :1]
    # One channel after the other: `any` over an axis of three is five times slower.
    for channel in range(1, image.shape[-1]):
        one = slice(channel, channel + 1)
        differs |= normal[..., one] != image[..., one]
    return differs


def written_mask(synth: Synthesizer, normal: Pixels, image: Pixels, mask: Mask) -> Mask:
    """The mask of an image as it is written.

    Args:
      synth: its card says whether the mask is what changed, or an area that the method
        chose, in which pixels may keep their value.
      normal: before.
      image: after, in the same depth.
      mask: 0 or 255, of the method.

    Returns:
      0 or 255; empty where no pixel under `mask` differs.
    """
    differs = changed(normal, image)
    if synth.card.mask == "changed":
        return np.where(differs, mask, np.uint8(0))
    return mask if (differs & (mask > 0)).any() else np.zeros_like(mask)


def mean_change(normal: Pixels, image: Pixels, mask: Mask, bits: int = 16) -> float:
    """Mean absolute change under the mask, of all channels, as a fraction of the range.

    0 for an empty mask. `bits` is the sensor's depth, for files of 16 bits.

    Args:
      normal, image: of one shape, `bits` deep.
      mask: where they are compared; above 0 counts.
      bits: of the pixels: 8 to 16.
    """
    rows, columns = (np.flatnonzero(mask[..., 0].any(axis)) for axis in (1, 0))
    if not rows.size:
        return 0.0
    # Only the box around the mask is looked at; the sum is one of whole numbers.
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside = mask[box] > 0
    change = np.abs(image[box].astype(np.int32) - normal[box].astype(np.int32))
    total = int((change * inside).sum(dtype=np.int64))
    mean = total / (int(inside.sum()) * image.shape[-1])
    return mean / highest(image.dtype, bits)
