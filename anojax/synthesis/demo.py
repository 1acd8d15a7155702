"""Every method on procedural products: nothing to download, something to look at."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anojax import registry
from anojax.data import samples
from anojax.data.config import DataConfig
from anojax.data.manifest import REPORT, read_rows
from anojax.environment import start_devices
from anojax.errors import RunError, SettingError
from anojax.report import html, sheet
from anojax.synthesis.config import SynthConfig
from anojax.synthesis.run import write_run

PRODUCTS = ("brushed_metal", "fabric", "wood", "tile", "circuit_board", "bottle")


@dataclass(frozen=True)
class Demo:
    """What there is to look at."""

    gallery: Path
    """Of each method that makes defects its most visible result on each product."""
    reports: tuple[Path, ...]


def make_demo(
    output: Path,
    *,
    size: int = 256,
    images: int = 4,
    seed: int = 0,
    note: Callable[[str], None] = lambda text: None,
) -> Demo:
    """Draw images of six products, and run every method that needs no training on them.

    Args:
      output: folder of everything.
      size: side of the images in pixels.
      images: of each product.
      seed: of products and anomalies.
      note: told what is about to happen.

    Raises:
      AnojaxError: a number is out of range, or a folder holds something else.
    """
    if images < 1 or size < 32:
        raise SettingError(
            f"demo: --images {images} and --size {size} must be at least 1 and 32"
        )
    started = time.perf_counter()
    start_devices()
    products, methods = output / "products", registry.untrained()
    note(f"drawing {len(PRODUCTS)} products, {images} of each, {size} x {size}")
    samples.write_samples(products, PRODUCTS, images, size, seed)
    total = len(PRODUCTS) * len(methods) * images
    note(
        f"then {total} images by {len(methods)} methods; most of the time goes into "
        "compiling them, once each: later runs find them in the compilation cache"
    )
    # What is shown is what one may take for a defect.
    defects = [m for m in methods if registry.get(m).card.purpose == "defect"]
    shown = {method: [] for method in defects}
    reports = []
    for number, product in enumerate(PRODUCTS):
        note(f"{product}: {len(methods)} methods")
        data = DataConfig(
            input=str(products / product / "train" / "good"),
            size=size,
            foreground=str(products / product / "foreground"),
        )
        # Another seed for each product: the same one would repeat the shapes.
        config = SynthConfig(data, methods, seed=seed + number)
        run = output / "runs" / product
        write_run(config, run, overwrite=True, quiet=True)
        reports.append(run / REPORT)
        rows = list(read_rows(run))
        for method in defects:
            made = [r for r in rows if r["method"] == method]
            if not made:
                raise RunError(f"demo: {method} made nothing of {product}")
            shown[method].append(html.load_example(run, max(made, key=_visible)))
    sheet.save(sheet.gallery(shown, PRODUCTS), output / "gallery.jpg")
    note(f"took {time.perf_counter() - started:.0f} s")
    return Demo(output / "gallery.jpg", tuple(reports))


def _visible(row: dict) -> float:
    """How easily a defect is seen in a small image: by contrast, then by size."""
    return (row["contrast"] or 0.0) * min(row["area"], 0.05) ** 0.5
