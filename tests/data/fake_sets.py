"""Tiny copies of public data sets, in their published layouts, written to a folder."""

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 24


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.squeeze()).save(path)
    return path


def sample_image(number: int, channels: int = 3, side: int = SIDE) -> np.ndarray:
    """Random pixels, other ones for every number."""
    draw = np.random.default_rng(number)
    return draw.integers(0, 256, (side, side, channels), np.uint8)


def mask(value: int = 255, side: int = SIDE) -> np.ndarray:
    out = np.zeros((side, side), np.uint8)
    out[4:9, 6:12] = value
    return out


def mvtec(root: Path, category: str = "widget", train: int = 12) -> Path:
    """MVTec AD and MPDD."""
    base = root / category
    for i in range(train):
        save(base / "train" / "good" / f"{i}.png", sample_image(i))
    for i in range(3):
        save(base / "test" / "good" / f"{i:03d}.png", sample_image(100 + i))
        save(base / "test" / "scratch" / f"{i:03d}.png", sample_image(200 + i))
        save(base / "ground_truth" / "scratch" / f"{i:03d}_mask.png", mask())
    return base


def btad(root: Path, category: str = "01") -> Path:
    base = root / category
    for i in range(4):
        save(base / "train" / "ok" / f"{i:04d}.bmp", sample_image(i))
        save(base / "test" / "ok" / f"{i:04d}.bmp", sample_image(100 + i))
        save(base / "test" / "ko" / f"{i:04d}.bmp", sample_image(200 + i))
        save(base / "ground_truth" / "ko" / f"{i:04d}.png", mask())
    return base


def visa(root: Path, category: str = "candle", *, split: bool = True) -> Path:
    base = root / category
    images, rows = base / "Data" / "Images", []
    for i in range(5):
        save(images / "Normal" / f"{i:04d}.JPG", sample_image(i))
        part = "train" if i < 3 else "test"
        where = f"{category}/Data/Images/Normal/{i:04d}.JPG"
        rows.append(f"{category},{part},normal,{where},")
    for i in range(2):
        save(images / "Anomaly" / f"{i:03d}.JPG", sample_image(200 + i))
        # VisA's masks hold small class numbers.
        save(base / "Data" / "Masks" / "Anomaly" / f"{i:03d}.png", mask(3))
        where = f"{category}/Data/Images/Anomaly/{i:03d}.JPG"
        truth = f"{category}/Data/Masks/Anomaly/{i:03d}.png"
        rows.append(f"{category},test,anomaly,{where},{truth}")
    if split:
        table = root / "split_csv" / "1cls.csv"
        table.parent.mkdir()
        table.write_text("\n".join(["object,split,label,image,mask", *rows]) + "\n")
    return base


def magnetic_tile(root: Path) -> Path:
    base = root / "Magnetic-tile-defect-datasets"
    for i in range(4):
        save(base / "MT_Free" / "Imgs" / f"exp1_num_{i}.jpg", sample_image(i, 1))
        save(base / "MT_Free" / "Imgs" / f"exp1_num_{i}.png", 0 * mask())
    for name in ("Blowhole", "Crack"):
        for i in range(2):
            where = base / f"MT_{name}" / "Imgs"
            save(where / f"exp2_num_{i}.jpg", sample_image(300 + i, 1))
            save(where / f"exp2_num_{i}.png", mask())
    return base


def plain(root: Path) -> Path:
    base = root / "photos"
    for i in (1, 2, 10):
        save(base / f"part{i}.png", sample_image(i))
    save(base / "more" / "part3.TIF", sample_image(3))
    (base / "notes.txt").write_text("not an image")
    save(base / ".trash" / "old.png", sample_image(4))
    save(base / ".hidden.png", sample_image(5))
    return base


def mvtec2(root: Path, category: str = "can") -> Path:
    """MVTec AD 2."""
    base = root / category
    for i in range(3):
        for light in ("regular", "overexposed"):
            name = f"{i:03d}_{light}"
            save(base / "train" / "good" / f"{name}.png", sample_image(i))
            save(base / "validation" / "good" / f"{name}.png", sample_image(50 + i))
            save(base / "test_private" / f"{name}.png", sample_image(70 + i))
            public = base / "test_public"
            save(public / "good" / f"{name}.png", sample_image(100 + i))
            save(public / "bad" / f"{name}.png", sample_image(200 + i))
            save(public / "ground_truth" / "bad" / f"{name}_mask.png", mask())
    return base


def loco(root: Path, category: str = "juice") -> Path:
    """MVTec LOCO AD: masks of several areas, with numbers of types as values."""
    base = root / category
    for i in range(2):
        save(base / "train" / "good" / f"{i:03d}.png", sample_image(i))
        save(base / "validation" / "good" / f"{i:03d}.png", sample_image(50 + i))
        save(base / "test" / "good" / f"{i:03d}.png", sample_image(100 + i))
        for kind in ("logical_anomalies", "structural_anomalies"):
            save(base / "test" / kind / f"{i:03d}.png", sample_image(200 + i))
            truth = base / "ground_truth" / kind / f"{i:03d}"
            save(truth / "000.png", mask(254))
            save(truth / "001.png", mask(233)[::-1])
    return base


def dagm(root: Path, category: str = "Class1") -> Path:
    base = root / category
    for split, first in (("Train", 0), ("Test", 10)):
        for i in range(4):
            save(base / split / f"{first + i:04d}.PNG", sample_image(first + i, 1))
        label = base / split / "Label"
        save(label / f"{first + 3:04d}_label.PNG", mask())
        (label / "Labels.txt").write_text("1\n")
    return base
