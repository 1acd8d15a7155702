"""Banks of texture images: a folder such as DTD, or procedural ones.

Methods whose card says they need a texture draw it from such a bank.
"""

import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from anojax.data.folders import find_images
from anojax.data.records import Size, extent, read_image, to_size
from anojax.errors import AnojaxError
from anojax.ops.materials import KINDS, texture
from anojax.random import method_key

PROCEDURAL_COUNT = 128
FOLDER_LIMIT = 512


@lru_cache(maxsize=8)
def _drawer(shape: tuple[int, int], channels: int, chunk: int):
    def one(key, kind):
        image = texture(key, kind, shape)
        if channels == 1:
            weights = jnp.array([[[0.299, 0.587, 0.114]]], jnp.float32)
            image = jnp.sum(image * weights, axis=-1, keepdims=True)
        return jnp.round(image * 255).astype(jnp.uint8)

    return jax.jit(
        lambda keys, kinds: jax.lax.map(lambda job: one(*job), (keys, kinds))
    )


def procedural_textures(
    *, size: Size, channels: int, count: int = PROCEDURAL_COUNT, seed: int = 0
) -> UInt8[np.ndarray, "n h w c"]:
    """`count` procedural textures, the kinds of `ops.materials` in turn.

    Texture i depends on the seed and on i alone.

    Args:
      size: (height, width) in pixels or the side of a square.
      channels: 1 or 3.
      count: at least 1.
      seed: an integer from 0 to 2**63 - 1.

    Raises:
      AnojaxError: the count is below 1.
    """
    if count < 1:
        raise AnojaxError(f"{count} textures were requested; give a count from 1")
    chunk = len(KINDS)
    ids = jnp.arange(-(-count // chunk) * chunk, dtype=jnp.int32)
    root = method_key(seed, "textures")
    keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(ids)
    draw = _drawer(extent(size), channels, chunk)
    parts = [
        draw(keys[i : i + chunk], ids[i : i + chunk] % chunk)
        for i in range(0, len(ids), chunk)
    ]
    return np.concatenate(jax.device_get(parts))[:count]


def _chosen(paths: list[Path], root: Path, seed: int, limit: int) -> list[Path]:
    """At most `limit` of the paths: the same ones wherever the folder lies."""
    if len(paths) <= limit:
        return paths
    rank = {
        p: zlib.crc32(f"{seed}/{p.relative_to(root).as_posix()}".encode())
        for p in paths
    }
    kept = set(sorted(paths, key=lambda p: (rank[p], p))[:limit])
    return [p for p in paths if p in kept]


def _middle(array: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The largest centered part with the proportions of `shape`."""
    h, w, _ = array.shape
    scale = min(h / shape[0], w / shape[1])
    height, width = round(shape[0] * scale), round(shape[1] * scale)
    top, left = (h - height) // 2, (w - width) // 2
    return array[top : top + height, left : left + width]


def texture_bank(
    folder: str | Path | None,
    *,
    size: Size,
    channels: int,
    seed: int = 0,
    limit: int = FOLDER_LIMIT,
) -> UInt8[np.ndarray, "n h w c"]:
    """Textures for `types.Bank`, on the host.

    Args:
      folder: searched with its subfolders; ``None`` for `procedural_textures`.
      size: (height, width) in pixels, or the side of a square.
      channels: 1 (gray) or 3.
      seed: picks the images when the folder holds more than `limit`, or draws the
        procedural ones.
      limit: most images to keep; 512 of 256 px take 100 MB in color.

    Returns:
      The middle of every image, resized, in natural order of the names.
      An empty folder or an unreadable image is a `DataError`.

    Raises:
      AnojaxError: other channels than 1 or 3.
      DataError: the folder is empty or an image is unreadable.

    Example:
      >>> from pathlib import Path
      >>> from PIL import Image
      >>> Path("dtd").mkdir()
      >>> Image.new("RGB", (48, 32), "tan").save("dtd/tan.png")
      >>> texture_bank("dtd", size=16, channels=3).shape
      (1, 16, 16, 3)
    """
    if channels not in (1, 3):
        raise AnojaxError(f"textures of {channels} channels; give 1 or 3")
    if folder is None:
        count = min(limit, PROCEDURAL_COUNT)
        return procedural_textures(size=size, channels=channels, count=count, seed=seed)
    root = Path(folder)
    paths = _chosen(find_images(root), root, seed, limit)

    shape = extent(size)

    def read(path: Path) -> np.ndarray:
        image = read_image(path, gray=channels == 1)
        return to_size(_middle(image.array, shape), shape)

    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(read, paths)))
