"""PNG encoding and atomic files."""

import io

import numpy as np
import pytest
from PIL import Image

from anojax.data.files import atomic_write, decode_png, encode_png, temporary_name
from anojax.errors import DataError, RunError

CASES = [
    (shape, kind) for shape in ((7, 5, 1), (16, 33, 3)) for kind in ("uint8", "uint16")
]


def sample_image(shape, kind, seed=0):
    top = np.iinfo(kind).max
    return np.random.default_rng(seed).integers(0, top, shape, kind, endpoint=True)


@pytest.mark.parametrize(("shape", "kind"), CASES)
def test_our_own_decoder_returns_the_same_pixels(shape, kind):
    pixels = sample_image(shape, kind)
    again = decode_png(encode_png(pixels))
    assert again.dtype == pixels.dtype
    np.testing.assert_array_equal(again, pixels)


@pytest.mark.parametrize("shape", [(7, 5, 1), (16, 33, 3)])
def test_pillow_reads_the_same_pixels(shape):
    pixels = sample_image(shape, "uint8")
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        assert image.mode == ("L" if shape[-1] == 1 else "RGB")
        np.testing.assert_array_equal(np.asarray(image).reshape(shape), pixels)


@pytest.mark.parametrize(("shape", "kind"), CASES)
def test_opencv_reads_the_same_pixels(shape, kind):
    cv2 = pytest.importorskip("cv2")
    pixels = sample_image(shape, kind)
    data = np.frombuffer(encode_png(pixels), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED).reshape(shape)
    np.testing.assert_array_equal(image[..., ::-1], pixels)


def test_the_file_is_not_much_larger_than_pillows():
    y, x = np.mgrid[:128, :128]
    smooth = 127 + 60 * np.sin(x / 9) * np.cos(y / 7)
    # A camera's noise: of an image without any, Pillow's file is half as large.
    noise = np.random.default_rng(0).normal(0, 1, smooth.shape)
    gray = (smooth + noise).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(gray).save(buffer, "PNG")
    assert len(encode_png(gray[..., None])) < 1.5 * len(buffer.getvalue())


def test_four_channels_are_refused():
    with pytest.raises(DataError, match="1 or 3 channels"):
        encode_png(np.zeros((4, 4, 4), np.uint8))


@pytest.mark.parametrize(
    "data", [b"", b"not a png", encode_png(np.ones((4, 4, 1), "u1"))[:40]]
)
def test_broken_files_are_refused(data):
    with pytest.raises(DataError):
        decode_png(data)


def test_files_of_other_programs_are_refused():
    buffer = io.BytesIO()
    Image.fromarray(sample_image((9, 9, 3), "uint8")).save(buffer, "PNG")
    with pytest.raises(DataError, match="anojax wrote"):
        decode_png(buffer.getvalue())


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "a.png"
    atomic_write(target, b"old")

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(RunError, match="No space left on device"):
        atomic_write(target, b"new")
    assert target.read_bytes() == b"old"


def test_nothing_temporary_is_left(tmp_path):
    atomic_write(tmp_path / "a.txt", "text")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert not temporary_name(tmp_path / "a.txt").exists()
