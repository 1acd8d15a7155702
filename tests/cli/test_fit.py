"""Images of other proportions than the size: stretched, padded or cropped, with all
that belongs to them."""

import json

import numpy as np
import pytest

from anojax.data.files import decode_png
from anojax.data.fit import fitted

from .conftest import draw, files, write_image


@pytest.fixture
def wide(tmp_path):
    """Images of 24 x 48 with a mask of the left and of the right quarter each."""
    left = np.zeros((24, 48, 1), np.uint8)
    left[:, :12] = 255
    for i in range(4):
        write_image(tmp_path / "wide" / f"{i}.png", draw(i, (24, 48)))
        write_image(tmp_path / "left" / f"{i}.png", left)
    right = np.ascontiguousarray(left[:, ::-1])
    write_image(tmp_path / "right.png", right)
    return tmp_path / "wide"


@pytest.fixture
def fit(anojax, wide, tmp_path):
    def run(how, *more, output="run"):
        return anojax(
            *("synth", "--method", "spot", "--input", wide, "--size", 32),
            *("--fit", how, "--output", tmp_path / output, *more),
        )

    return run


def rows(run):
    text = (run / "manifest.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def images(run):
    """Normal image, image and mask of every row."""
    for row in rows(run):
        yield [
            decode_png((run / row[k]).read_bytes()) for k in ("normal", "image", "mask")
        ]


@pytest.mark.parametrize("shape", [(24, 48), (48, 24), (37, 53), (1000, 17), (32, 32)])
def test_way_there_and_back(shape):
    for how in ("stretch", "pad", "crop"):
        way = fitted(shape, (32, 32), how)
        inside = way.mask(np.ones((*shape, 1), np.uint8))
        assert inside.shape == (32, 32, 1)
        assert inside.sum() == np.prod(way.filled) > 0
        rows, columns = way.source
        part = rows.stop - rows.start, columns.stop - columns.start
        if how != "stretch":
            # The part keeps its proportions, to half a pixel of the shorter side.
            scale = max(way.filled) / part[np.argmax(way.filled)]
            assert np.abs(np.multiply(part, scale) - way.filled).max() <= 1
        assert (part == shape) == (how != "crop" or shape == (32, 32))


def test_padding_gets_no_defect_and_repeats_the_edge(fit, anojax, tmp_path):
    code, out, err = fit("pad", "--foreground", "none", "--per-image", 4)
    assert code == 0, err
    assert "48 x 24, and 32 x 32 leaves room beside it" in out
    for normal, _, mask in images(tmp_path / "run"):
        assert normal.shape == (32, 32, 1)
        np.testing.assert_array_equal(normal[:8], np.repeat(normal[8:9], 8, 0))
        assert mask.any() and not mask[:8].any() and not mask[24:].any()
    assert anojax("verify", tmp_path / "run")[0] == 0


def test_regions_and_foregrounds_take_the_same_way(fit, tmp_path):
    where = ("--foreground", tmp_path / "left")
    assert fit("pad", *where)[0] == 0
    for _, _, mask in images(tmp_path / "run"):
        assert mask[8:24, :8].any() and not mask[:, 8:].any()
    # The middle of the images is none of the quarters at their sides.
    code, _, err = fit("crop", *where, output="cropped")
    assert code == 2 and "is empty at 32 x 32" in err
    where = ("--foreground", "none", "--region", tmp_path / "right.png")
    assert fit("pad", *where, output="right")[0] == 0
    for _, _, mask in images(tmp_path / "right"):
        assert mask[8:24, 24:].any() and not mask[:, :24].any()


@pytest.mark.parametrize("how", ["stretch", "pad", "crop"])
def test_own_resolution(fit, anojax, tmp_path, how):
    more = ("--foreground", "none", "--native", "--per-image", 3)
    code, _, err = fit(how, *more)
    assert code == 0, err
    for normal, image, mask in images(tmp_path / "run"):
        assert image.shape == (24, 48, 1) and mask.any()
        changed = (normal != image).any(-1)
        assert not changed[mask[..., 0] == 0].any()
        assert changed[mask[..., 0] > 0].all()
        ys, xs = np.nonzero(mask[..., 0])
        sides = np.ptp(ys) + 1, np.ptp(xs) + 1
        if how == "crop":  # 32 pixels of the work are 24 of the file
            assert xs.min() >= 12 and xs.max() < 36
            assert max(sides) <= 6 * 24 / 32 + 2
        if how == "pad":  # 32 are 48
            assert max(sides) <= 6 * 48 / 32 + 2
    assert anojax("verify", tmp_path / "run")[0] == 0


def test_the_default_stretches_and_says_so_once(fit, anojax, wide, tmp_path):
    assert fit("stretch", "--foreground", "none")[0] == 0
    code, out, _ = anojax(
        *("synth", "--method", "spot", "--input", wide, "--size", 32),
        *("--foreground", "none", "--output", tmp_path / "default"),
    )
    assert code == 0 and out.count("stretches it by 100%") == 1
    assert files(tmp_path / "run") == files(tmp_path / "default")
    _, out, _ = fit(
        "stretch", "--foreground", "none", "--size", "16x32", "--dry-run", output="x"
    )
    assert "stretches it" not in out


def test_mistakes(fit, tmp_path):
    code, _, err = fit("squeeze")
    assert code == 2 and "squeeze" in err and "stretch" in err
    assert not (tmp_path / "run").exists()
