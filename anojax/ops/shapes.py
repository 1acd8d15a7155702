"""Defect shapes as {0, 1} masks: boxes, ellipses, polygons, smooth outlines, tiles.

Coordinates are (y, x) in pixels, pixel centers are at integers, and sizes may be traced:
only the canvas `shape` = (height, width) is static.
"""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from anojax.ops.filters import gaussian_blur
from anojax.ops.morphology import erode

Number = Float[Array, ""] | Int[Array, ""] | float | int
Count = Int[Array, ""] | int

# Crossings that are a whole number come out of float32 a little above or below it.
_SLACK = 2e-4
_NOWHERE = 1e6


def box_mask(
    shape: tuple[int, int], y0: Count, x0: Count, height: Count, width: Count
) -> Float[Array, "h w 1"]:
    """The box of rows [y0, y0 + height) and columns [x0, x0 + width).

    Args:
      shape: height and width of the mask.
      y0, x0: top-left pixel, possibly traced.
      height, width: of the box in pixels, possibly traced.

    Example:
      >>> box_mask((4, 6), 1, 2, 2, 3)[..., 0].astype(int).tolist()
      [[0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]]
    """
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None]
    inside = (rows >= y0) & (rows < y0 + height)
    inside = inside & (columns >= x0) & (columns < x0 + width)
    return jnp.asarray(inside, jnp.float32)[..., None]


def polygon_mask(
    shape: tuple[int, int], points: Float[Array, "n 2"]
) -> Float[Array, "h w 1"]:
    """A filled closed polygon: the even-odd rule on pixel centers, and its boundary.

    The boundary is one pixel wide, as a line from vertex to vertex is drawn on a grid.
    For integer vertices the result equals OpenCV's filled `drawContours`. Repeated
    vertices are harmless, which lets outlines of different lengths share one shape.

    Example:
      >>> triangle = jnp.asarray([[0.0, 0.0], [3.0, 0.0], [3.0, 3.0]])
      >>> polygon_mask((4, 4), triangle)[..., 0].astype(int).tolist()
      [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    """
    crossing, first, last = _row_spans(shape[0], points)
    columns = np.arange(shape[1], dtype=np.float32)[None]

    def add_edge(edge, masks):
        odd, rim = masks
        odd = odd ^ (crossing[edge][:, None] <= columns).astype(jnp.int8)
        on = (first[edge][:, None] <= columns) & (columns <= last[edge][:, None])
        return odd, rim | on.astype(jnp.int8)

    empty = jnp.zeros(shape, jnp.int8)
    # Unrolled, the edges fuse into one pass over the pixels, a few at a time.
    odd, rim = lax.fori_loop(0, points.shape[0], add_edge, (empty, empty), unroll=11)
    return (odd | rim).astype(jnp.float32)[..., None]


def smooth_outline(
    vertices: Float[Array, "n 2"],
    *,
    tension: Number,
    straight: Bool[Array, " n"] | None = None,
    count: Count | None = None,
    samples: int = 11,
) -> Float[Array, "n*{samples} 2"]:
    """A closed curve through `vertices`: one cubic Bezier per edge, tangents shared.

    The handles at a vertex are the midpoints of its two edges, moved so that the line
    between them passes through the vertex, and drawn towards it by `tension` (as in
    REB, arXiv 2308.12577).

    Args:
      vertices: corners (y, x) in order.
      tension: 0 keeps the full handles, 1 removes them, which leaves the polygon.
      straight: edges (from vertex i to the next) that stay straight.
      count: use the first `count` vertices only; the points of the others all lie on
        the first vertex.
      samples: points per edge, the first one being the vertex itself. All the points
        of a straight edge are its first vertex.
    """
    n = vertices.shape[0]
    index = np.arange(n)
    count = jnp.asarray(n if count is None else count, jnp.int32)
    vertices = jnp.where((index < count)[:, None], vertices, vertices[:1])
    after = jnp.where(index + 1 < count, index + 1, 0)
    before = jnp.where(index == 0, count - 1, index - 1)

    following = vertices[after]
    middle = (vertices + following) / 2
    length = jnp.linalg.norm(following - vertices, axis=1, keepdims=True)
    reach = length[before] / jnp.maximum(length[before] + length, 1e-6)
    anchor = middle[before] + reach * (middle - middle[before])
    pull = 1.0 - tension
    arriving = vertices + pull * (middle[before] - anchor)
    leaving = vertices + pull * (middle - anchor)

    t = (np.arange(samples, dtype=np.float32) / samples)[None, :, None]
    curve = (
        (1 - t) ** 3 * vertices[:, None]
        + 3 * (1 - t) ** 2 * t * leaving[:, None]
        + 3 * (1 - t) * t**2 * arriving[after][:, None]
        + t**3 * following[:, None]
    )
    flat = index >= count if straight is None else straight | (index >= count)
    flat = jnp.broadcast_to(jnp.asarray(flat)[:, None, None], curve.shape)
    corner = jnp.broadcast_to(vertices[:, None], curve.shape)
    return jnp.where(flat, corner, curve).reshape(n * samples, 2)


def sort_by_angle(
    vertices: Float[Array, "n 2"], *, count: Count | None = None
) -> Float[Array, "n 2"]:
    """Order the first `count` vertices by their direction from their mean."""
    n = vertices.shape[0]
    count = jnp.asarray(n if count is None else count, jnp.int32)
    used = jnp.asarray(np.arange(n) < count)
    mean = jnp.where(used[:, None], vertices, 0.0).sum(0, keepdims=True)
    offset = vertices - mean / jnp.asarray(count, jnp.float32)
    direction = jnp.arctan2(offset[:, 0], offset[:, 1])
    return vertices[jnp.argsort(jnp.where(used, direction, jnp.inf))]


def fit_box(
    points: Float[Array, "n 2"], height: Count, width: Count
) -> Float[Array, "n 2"]:
    """Stretch an outline to whole pixels from (0, 0) to (height - 1, width - 1)."""
    points = points - points.min(axis=0, keepdims=True)
    extent = jnp.maximum(points.max(axis=0, keepdims=True), 1e-6)
    far = jnp.stack([jnp.asarray(s - 1, jnp.float32) for s in (height, width)])
    return jnp.floor(points / extent * far[None])


def enclosed_fraction(points: Float[Array, "n 2"]) -> Float[Array, ""]:
    """Area enclosed by an outline over the area of its bounding box."""
    y, x = points[:, 0], points[:, 1]
    area = jnp.abs(jnp.sum(x * jnp.roll(y, -1) - y * jnp.roll(x, -1))) / 2
    extent = points.max(axis=0) - points.min(axis=0)
    return area / jnp.maximum(extent[0] * extent[1], 1e-6)


def rotate_mask(
    mask: Float[Array, "h w 1"], height: Count, width: Count, angle_rad: Number
) -> tuple[Float[Array, "h w 1"], Int[Array, ""], Int[Array, ""]]:
    """Turn a shape counter-clockwise (on the screen) pixel by pixel, as Pillow does.

    The shape lives in the top-left `height` x `width` box of the canvas, which must
    also hold the turned box. Nearest neighbor, canvas expanded, cut to the shape.

    Args:
      mask: a canvas with the shape in its corner.
      height, width: of the shape, in pixels.
      angle_rad: counter-clockwise.

    Returns:
      The shape, back in the corner, and the height and width of its own box.
    """
    rows, columns, _ = mask.shape
    height, width = (jnp.asarray(s, jnp.float32) for s in (height, width))
    cos, sin = jnp.cos(angle_rad), jnp.sin(angle_rad)

    def expanded(size, reach):
        return jnp.ceil((size + reach) / 2) - jnp.floor((size - reach) / 2)

    tall = expanded(height, jnp.abs(width * sin) + jnp.abs(height * cos))
    wide = expanded(width, jnp.abs(width * cos) + jnp.abs(height * sin))
    y = np.arange(rows, dtype=np.float32)[:, None] + 0.5 - tall / 2
    x = np.arange(columns, dtype=np.float32)[None] + 0.5 - wide / 2
    from_y = jnp.floor(x * sin + y * cos + height / 2)
    from_x = jnp.floor(x * cos - y * sin + width / 2)
    inside = (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
    flat = jnp.where(inside, from_y * columns + from_x, 0.0).astype(jnp.int32)
    turned = mask.ravel().at[flat].get(mode="promise_in_bounds")
    turned = jnp.where(inside, turned, 0.0)

    def span(hits):
        first = jnp.argmax(hits)
        length = hits.shape[0] - jnp.argmax(hits[::-1]) - first
        return first, length.astype(jnp.int32)

    top, height = span(turned.any(axis=1))
    left, width = span(turned.any(axis=0))
    return jnp.roll(turned, (-top, -left), (0, 1))[..., None], height, width


def feather(
    mask: Float[Array, "h w 1"], height: Count, width: Count, *, radius: int
) -> Float[Array, "h w 1"]:
    """Erode a shape, then blur it, so that it fades out towards its edge.

    The shape lives in the top-left `height` x `width` box of the canvas: beyond the box
    counts as shape while eroding (ellipse kernel) and is mirrored while blurring
    (Gaussian with sigma = 2 radius + 1, cut off at `radius`), as in REB.

    Args:
      mask: 0 or 1, zero outside the box.
      height, width: of the box, at least radius + 1.
      radius: of both kernels, in pixels; 0 returns the mask.
    """
    if radius == 0:
        return mask
    size = 2 * radius + 1
    box = box_mask(mask.shape[:2], 0, 0, height, width)
    soft = erode(jnp.where(box > 0, mask, 1.0), size=size, shape="ellipse")
    row = np.arange(mask.shape[0])[:, None, None]
    column = np.arange(mask.shape[1])[None, :, None]
    for i in range(1, radius + 1):
        soft = jnp.where(row == height - 1 + i, soft[None, height - 1 - i], soft)
    for i in range(1, radius + 1):
        soft = jnp.where(column == width - 1 + i, soft[:, None, width - 1 - i], soft)
    return gaussian_blur(soft, float(size), radius=radius) * box


def grid_shuffle(
    key: Key[Array, ""], image: Float[Array, "h w c"], *, grid: tuple[int, int] = (8, 8)
) -> Float[Array, "h w c"]:
    """Cut the image into `grid` = (rows, columns) equal tiles and permute them.

    Tiles are `height // rows` by `width // columns` pixels. Rows and columns that are
    left over at the bottom and on the right stay in place. MemSeg (arXiv 2205.00908)
    makes its structural defects this way.

    Raises:
      ValueError: the grid has more rows or columns than the image has pixels.

    Example:
      >>> image = jnp.arange(16.0).reshape(4, 4, 1)
      >>> shuffled = grid_shuffle(jax.random.key(0), image, grid=(2, 2))
      >>> sorted(shuffled.ravel().tolist()) == image.ravel().tolist()
      True
    """
    (rows, columns), (height, width, channels) = grid, image.shape
    if not (1 <= rows <= height and 1 <= columns <= width):
        raise ValueError(
            f"grid {grid} does not fit an image of {height}x{width} pixels; "
            "use at least one and at most that many rows and columns"
        )
    h, w = height // rows, width // columns
    core = image[: rows * h, : columns * w]
    # Columns and channels are one axis: compilers copy long rows faster than pixels.
    core = rearrange(core, "h w c -> h (w c)")
    tiles = rearrange(core, "(r h) (q wc) -> (r q) h wc", r=rows, q=columns)
    tiles = tiles[jax.random.permutation(key, rows * columns)]
    core = rearrange(tiles, "(r q) h wc -> (r h) (q wc)", r=rows)
    core = rearrange(core, "h (w c) -> h w c", c=channels)
    return image.at[: rows * h, : columns * w].set(core)


def _row_spans(
    rows: int, points: Float[Array, "n 2"]
) -> tuple[Float[Array, "n r"], Float[Array, "n r"], Float[Array, "n r"]]:
    """Per edge and row: the column from which on it is crossed, and its own columns.

    An edge that does not meet a row has them out of sight.
    """
    ends = jnp.roll(points, -1, axis=0)
    # From left to right: a line drawn on a grid breaks ties towards its left end.
    swap = (points[:, 1] > ends[:, 1])[:, None]
    start, end = jnp.where(swap, ends, points), jnp.where(swap, points, ends)
    (y0, x0), (y1, x1) = (jnp.split(p, 2, axis=1) for p in (start, end))
    row = np.arange(rows, dtype=np.float32)[None]
    dy, dx = y1 - y0, x1 - x0
    top, bottom = jnp.minimum(y0, y1), jnp.maximum(y0, y1)

    level = dy == 0
    slope = dx / jnp.where(level, 1.0, dy)
    at_row = x0 + (row - y0) * slope
    hit = (top <= row) & (row < bottom)
    crossing = jnp.where(hit, jnp.ceil(at_row - _SLACK), _NOWHERE)

    # Steep edges have one pixel per row; the others a run, half a row up and down.
    steep = jnp.abs(dy) >= dx
    nearest = jnp.ceil(at_row - 0.5 - _SLACK)
    half = jnp.abs(slope) / 2
    first = jnp.maximum(jnp.floor(at_row - half + _SLACK) + 1, x0)
    last = jnp.minimum(jnp.floor(at_row + half + _SLACK), x1)
    first = jnp.where(steep, nearest, jnp.where(level, x0, first))
    last = jnp.where(steep, nearest, jnp.where(level, x1, last))
    touched = jnp.where(
        steep,
        (top <= row) & (row <= bottom),
        jnp.where(level, row == y0, (top <= row + 0.5) & (row - 0.5 <= bottom)),
    )
    first = jnp.where(touched, first, _NOWHERE)
    return crossing, first, jnp.where(touched, last, -_NOWHERE)
