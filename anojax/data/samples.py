"""Procedural products with exact foregrounds: images of good parts with no download.

Nine products, drawn on the device: five that fill the image and four objects on a
plain background. An image depends on the seed, the product and its number alone.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, UInt8
from PIL import Image

from anojax.data import boards, objects, surfaces
from anojax.data.records import Size, extent
from anojax.data.scene import Drawing, Shape
from anojax.errors import AnojaxError, DataError, UnknownName, did_you_mean
from anojax.random import method_key

Draw = Callable[[Key[Array, ""]], Drawing]


def _simple(drawing: Callable[[Key[Array, ""], Shape], Drawing]):
    return lambda shape: lambda key: drawing(key, shape)


# Name -> (shape of the image -> (key -> image and foreground)).
PRODUCTS: dict[str, Callable[[Shape], Draw]] = {
    "bottle": _simple(objects.bottle),
    "brushed_metal": _simple(surfaces.brushed_metal),
    "capsule": _simple(objects.capsule),
    "circuit_board": boards.circuit_board,
    "fabric": _simple(surfaces.fabric),
    "leather": _simple(surfaces.leather),
    "nut": _simple(objects.nut),
    "tile": _simple(surfaces.tile),
    "wood": _simple(surfaces.wood),
}
OBJECTS = frozenset({"bottle", "capsule", "circuit_board", "nut"})
CHUNK = 8


def products() -> tuple[str, ...]:
    """Names of the products, in alphabetical order.

    Example:
      >>> products()[:3]
      ('bottle', 'brushed_metal', 'capsule')
    """
    return tuple(sorted(PRODUCTS))


@lru_cache(maxsize=32)
def _drawer(product: str, shape: Shape) -> Callable:
    """Compiled: keys of `CHUNK` images -> uint8 images and foregrounds."""
    draw = PRODUCTS[product](shape)

    def one(key):
        image, foreground = draw(key)
        return jnp.round(image * 255).astype(jnp.uint8), foreground.astype(jnp.uint8)

    return jax.jit(lambda keys: jax.lax.map(one, keys))


def make(
    product: str, count: int, size: Size = 256, seed: int = 0
) -> tuple[UInt8[np.ndarray, "n h w 3"], UInt8[np.ndarray, "n h w 1"]]:
    """Images of one product and their foregrounds.

    Args:
      product: one of `products()`.
      count: number of images, at least 1.
      size: (height, width) in pixels or the side of a square, at least 16.
      seed: an integer from 0 to 2**63 - 1. Image i is the same whatever `count`.

    Returns:
      uint8 images, and uint8 foregrounds: 1 where the object is, else 0.

    Raises:
      UnknownName: there is no such product.
      AnojaxError: the count or the size is too small.

    Example:
      >>> images, foregrounds = make("fabric", 2, size=32)
      >>> images.shape, images.dtype, foregrounds.max()
      ((2, 32, 32, 3), dtype('uint8'), np.uint8(1))
    """
    if product not in PRODUCTS:
        raise UnknownName(
            f"there is no product '{product}'{did_you_mean(product, PRODUCTS)}"
        )
    shape = extent(size)
    if count < 1 or min(shape) < 16:
        raise AnojaxError(
            f"{count} images of {shape[0]} x {shape[1]} pixels were requested; "
            "give a count of at least 1 and a size of at least 16"
        )
    root = method_key(seed, f"sample/{product}")
    # Whole chunks only: one compilation serves every count.
    ids = jnp.arange(-(-count // CHUNK) * CHUNK, dtype=jnp.uint32).reshape(-1, CHUNK)
    keys = jax.vmap(jax.vmap(partial(jax.random.fold_in, root)))(ids)
    draw = _drawer(product, shape)
    parts = [jax.device_get(draw(chunk)) for chunk in keys]
    images, foregrounds = (np.concatenate(p)[:count] for p in zip(*parts, strict=True))
    return images, foregrounds


def write_samples(
    folder: str | Path,
    products: Iterable[str] = tuple(sorted(PRODUCTS)),
    count: int = 16,
    size: Size = 256,
    seed: int = 0,
) -> Path:
    """Write products as PNG in MVTec AD layout, with exact foregrounds beside.

    ``<folder>/<product>/train/good/000.png`` is an image,
    ``<folder>/<product>/foreground/000.png`` its foreground (255 is the object).

    Args:
      folder: is made if need be.
      products: of `products()`.
      count: images of each, at least 1.
      size: (height, width) in pixels or the side of a square, at least 16.
      seed: an integer from 0 to 2**63 - 1.

    Returns:
      The folder. A file that cannot be written is a `DataError`.

    Raises:
      DataError: a file cannot be written.
    """
    folder = Path(folder)
    for product in products:
        images, foregrounds = make(product, count, size, seed)
        good, where = (
            folder / product / "train" / "good",
            folder / product / "foreground",
        )
        jobs = [(good / f"{i:03d}.png", image) for i, image in enumerate(images)]
        jobs += [
            (where / f"{i:03d}.png", 255 * mask[..., 0])
            for i, mask in enumerate(foregrounds)
        ]
        try:
            good.mkdir(parents=True, exist_ok=True)
            where.mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda job: Image.fromarray(job[1]).save(job[0]), jobs))
        except OSError as error:
            raise DataError(
                f"the samples cannot be written to {folder}: {error.strerror or error}; "
                "choose a folder that is writable and has room"
            ) from error
    return folder
