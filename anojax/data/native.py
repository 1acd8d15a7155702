"""From the working size back to each image's own resolution and bit depth.

The mask is enlarged by nearest neighbor. Under it, the *change* that the defect made at
the working size is enlarged bilinearly and added to the file's own pixels, so that the
grain and the full bit depth of the original live on under the defect; outside it every
pixel is the file's own, bit for bit.
"""

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

Native = UInt8[np.ndarray, "H W c"] | UInt16[np.ndarray, "H W c"]


def to_native(
    native: Native,
    normal: UInt8[np.ndarray, "h w c"],
    image: UInt8[np.ndarray, "h w c"],
    mask: UInt8[np.ndarray, "h w 1"],
    bits: int = 16,
) -> tuple[Native, UInt8[np.ndarray, "H W 1"]]:
    """The defect of a working-size image, in the image it came from.

    Args:
      native: the file's own pixels, 8 or 16 bits.
      normal: the same at the working size, as the method saw it.
      image: with the defect.
      mask: 0 or 255.
      bits: of the sensor whose values are in files of 16 bits; no value that is written
        lies above its range.
    """
    height, width, channels = native.shape
    top = highest(native.dtype, bits)
    # A box filter is nearest neighbor when enlarging; when shrinking it keeps every
    # pixel that the defect touches, so that thin scratches survive.
    large = Image.fromarray(mask[..., 0]).resize((width, height), Image.Resampling.BOX)
    inside = np.asarray(large)[..., None] > 0
    change = image.astype(np.float32) - normal.astype(np.float32)
    planes = [
        Image.fromarray(np.ascontiguousarray(change[..., c])).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        for c in range(channels)
    ]
    change = np.stack([np.asarray(plane) for plane in planes], -1) * (top / 255)
    changed = np.clip(np.rint(native + change), 0, top).astype(native.dtype)
    return np.where(inside, changed, native), inside.astype(np.uint8) * 255


def highest(dtype: np.dtype, bits: int = 16) -> int:
    """The largest value of an image: of 8 bits, or of a sensor's in files of 16."""
    return 255 if dtype == np.uint8 else 2**bits - 1
