"""Files that are not what they say: refused in one sentence, and nothing is started."""

import io
import os
import shutil
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anojax.data.decode import decode, has_16_bits
from anojax.data.opening import open_file, read_text
from anojax.data.records import read_image
from anojax.errors import AnojaxError, DataError

EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 50 50
%%EndComments
0 0 50 50 rectfill showpage
"""


@pytest.fixture
def no_programs(tmp_path, monkeypatch):
    """A path on which every program that Pillow could start leaves a trace."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("gs", "gswin64c", "djpeg", "cjpeg"):
        (tools / name).write_text(f"#!/bin/sh\ntouch {tools}/started\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    yield
    assert not (tools / "started").exists()


def other_formats():
    image = Image.fromarray(np.full((20, 20, 3), 90, np.uint8))
    for kind in ("GIF", "PPM", "TGA", "PCX", "SGI", "ICO", "DIB", "PDF"):
        file = io.BytesIO()
        image.save(file, kind)
        yield kind, file.getvalue()
    yield "EPS", EPS
    yield "XPM", b'/* XPM */\nstatic char *a[] = {\n"1 1 1 1",\n"a c #000000",\n"a"};\n'
    yield "SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>"


@pytest.mark.parametrize(
    ("kind", "data"), list(other_formats()), ids=lambda x: str(x)[:4]
)
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_only_the_promised_formats_are_opened(
    tmp_path, no_programs, kind, data, ending
):
    path = tmp_path / f"x.{ending}"
    path.write_bytes(data)
    with pytest.raises(DataError, match="is not an image, whatever its name says"):
        read_image(path)
    assert not has_16_bits(path)


@pytest.mark.parametrize("ending", ["png", "jpg", "yaml"])
def test_pipes_and_devices_are_refused_and_not_waited_for(tmp_path, ending):
    pipe = tmp_path / f"x.{ending}"
    os.mkfifo(pipe)
    found = []

    def work():
        for path in (pipe, Path("/dev/zero"), tmp_path):
            with pytest.raises(DataError) as caught:
                open_file(path)
            found.append(str(caught.value))
        assert not has_16_bits(pipe)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(20)
    assert not worker.is_alive()
    assert [words.split(" is ", 1)[1].split(",")[0].split(";")[0] for words in found] == [
        "a pipe", "a device", "a folder",
    ]  # fmt: skip


def chunk(kind, data):
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def short_png(rows, *, height=40, color=0, palette=b"", interlace=0):
    header = struct.pack(">IIBBBBB", 48, height, 8, color, 0, 0, interlace)
    line = b"\0" + b"\x99" * (48 * (3 if color == 2 else 1))
    line = line if color != 3 else b"\0" + b"\x01" * 48
    parts = [chunk(b"IHDR", header)]
    if palette:
        parts.append(chunk(b"PLTE", palette))
    data = zlib.compress(line * rows)
    parts += [chunk(b"IDAT", data[:9]), chunk(b"IDAT", data[9:]), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("rows", [0, 1, 5, 39])
@pytest.mark.parametrize("color", [0, 2, 3])
def test_a_png_that_lacks_rows_is_damaged(tmp_path, rows, color):
    palette = b"\xff\x00\x00\x00\xff\x00" if color == 3 else b""
    path = tmp_path / "a.png"
    path.write_bytes(short_png(rows, color=color, palette=palette))
    with pytest.raises(DataError, match="is damaged"):
        read_image(path)
    path.write_bytes(short_png(40, color=color, palette=palette))
    assert read_image(path).array.shape == (40, 48, 3 if color else 1)


def test_an_interlaced_png_that_lacks_a_pass(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(short_png(7, interlace=1))
    with pytest.raises(DataError, match=r"is damaged|not an image"):
        read_image(path)


def test_black_images_are_whole(tmp_path):
    for mode in ("L", "RGB", "P", "1", "I;16", "RGBA", "LA"):
        Image.new(mode, (31, 17)).save(tmp_path / "a.png")
        assert not read_image(tmp_path / "a.png").array.any()


def test_a_tiff_that_lacks_strips_is_damaged(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    array = np.random.default_rng(0).integers(1, 256, (40, 48), np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, rowsperstrip=5)
    np.testing.assert_array_equal(read_image(path).array[..., 0], array)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as whole:
        tags = whole.pages[0].tags
        for name in ("StripOffsets", "StripByteCounts"):
            # The entry's count: its second half, behind code and type.
            struct.pack_into("<I", data, tags[name].offset + 4, 1)
            first = tags[name].value[0]
            struct.pack_into("<I", data, tags[name].offset + 8, first)
            struct.pack_into("<H", data, tags[name].offset + 2, 4)
    path.write_bytes(data)
    with pytest.raises(DataError, match="is damaged"):
        read_image(path)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.9])
def test_a_jpeg_that_ends_early_is_damaged(tmp_path, mode, share):
    path = tmp_path / "a.jpg"
    shape = (64, 80) if mode == "L" else (64, 80, 3)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8)).save(
        path
    )
    data = path.read_bytes()
    start = data.index(b"\xff\xda") + 20
    assert read_image(path).array.shape[:2] == (64, 80)
    # As recovery programs write it: cut, with an end of file after it.
    path.write_bytes(data[: start + int(share * (len(data) - start))] + b"\xff\xd9")
    with pytest.raises(DataError, match="is damaged"):
        read_image(path)


def test_gray_jpegs_are_whole(tmp_path):
    path = tmp_path / "a.jpg"
    for mode, color in (("L", 128), ("RGB", (128, 128, 128))):
        Image.new(mode, (64, 40), color).save(path)
        assert (read_image(path).array == 128).all()
    Image.new("RGB", (64, 40), (128, 128, 128)).save(path, progressive=True)
    assert (read_image(path).array == 128).all()


def test_texts_have_a_limit_and_an_encoding(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfinput: Pr\xc3\xbcf\r\nsize: 1\r\n")
    assert read_text(path) == "input: Prüf\nsize: 1\n"
    with pytest.raises(DataError, match="larger than 0 KiB"):
        read_text(path, limit=10)
    for encoding in ("cp1252", "utf-16"):
        path.write_bytes("input: Prüf".encode(encoding))
        with pytest.raises(DataError, match="is not UTF-8 text"):
            read_text(path)
    path.write_bytes(b"a\0b")
    with pytest.raises(DataError, match="no text"):
        read_text(path)
    with pytest.raises(DataError, match="a device"):
        read_text(Path("/dev/zero"))


# Small files of every kind, to be mutated.
def seeds(folder):
    draw = np.random.default_rng(3)
    gray = draw.integers(0, 256, (24, 32), np.uint8)
    color = draw.integers(0, 256, (24, 32, 3), np.uint8)
    images = {
        "g.png": gray, "c.png": color, "d.png": gray.astype(np.uint16) * 257,
        "c.jpg": color, "g.jpg": gray, "g.bmp": gray, "c.bmp": color, "c.tif": color,
        "d.tif": gray.astype(np.uint16) * 257, "c.webp": color,
    }  # fmt: skip
    for name, array in images.items():
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {} if name.endswith("bmp") else {"exif": exif}
        Image.fromarray(array).save(folder / name, **options)
    Image.fromarray(color).save(folder / "p.jpg", progressive=True)
    Image.fromarray(color).quantize(9).save(folder / "p.png")
    Image.fromarray(color).save(folder / "z.tif", compression="tiff_adobe_deflate")
    Image.fromarray(color).save(folder / "l.tif", compression="tiff_lzw")
    Image.fromarray(color).save(folder / "j.tif", compression="jpeg")
    Image.fromarray(color).save(folder / "l.webp", lossless=True)
    return sorted(folder.iterdir())


def mutated(data, draw):
    """One of: bytes changed, cut, a part doubled, a part zeroed."""
    data = bytearray(data)
    kind, place = draw.integers(4), int(draw.integers(len(data)))
    if kind == 0:
        for spot in draw.integers(0, min(len(data), 400), draw.integers(1, 6)):
            data[spot] = draw.integers(256)
    elif kind == 1:
        del data[max(place, 1) :]
    elif kind == 2:
        data[place:place] = data[place : place + 40]
    else:
        length = min(40, len(data) - place)
        data[place : place + length] = bytes(length)
    return bytes(data)


FUZZ = """
import sys
from pathlib import Path
from anojax.data.decode import has_16_bits
from anojax.data.masks import mask_of
from anojax.data.records import read_image
from anojax.errors import DataError
read = refused = 0
for path in sorted(Path(sys.argv[1]).iterdir()):
    has_16_bits(path)
    for work in (read_image, mask_of):
        try:
            work(path)
            read += 1
        except DataError as error:
            assert str(path) in str(error) and "\\n" not in str(error), str(error)
            refused += 1
print(read, refused)
"""


def test_mutated_files_are_read_or_refused(tmp_path):
    """In a program of its own, where warnings are printed as users would see them."""
    whole, spoiled = tmp_path / "whole", tmp_path / "spoiled"
    whole.mkdir(), spoiled.mkdir()
    draw = np.random.default_rng(11)
    rounds = int(os.environ.get("ANOJAX_FUZZ_ROUNDS", 25))
    count = 0
    for seed in seeds(whole):
        for number in range(rounds):
            name = f"{seed.stem}_{number}{seed.suffix}"
            (spoiled / name).write_bytes(mutated(seed.read_bytes(), draw))
            count += 1
    command = [sys.executable, "-c", FUZZ, str(spoiled)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    read, refused = map(int, done.stdout.split())
    assert read + refused == 2 * count and min(read, refused) > count // 10


def test_seeds_of_the_fuzz_are_whole(tmp_path):
    for path in seeds(tmp_path):
        assert decode(path).array.shape[:2] in ((24, 32), (32, 24))
    shutil.rmtree(tmp_path)


def test_a_vanished_file_is_said_to_be_gone(tmp_path):
    with pytest.raises(AnojaxError, match="does not exist"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"exemplars": [1]}', "[" * 9999]
)
def test_damaged_lists_of_a_run(tmp_path, text):
    from anojax.data import categories, exemplars

    for module in (exemplars, categories):
        assert not module.listed_in(tmp_path)
        (tmp_path / module.FILE).write_text(text)
        with pytest.raises(DataError, match="is damaged"):
            module.listed_in(tmp_path)
