"""Awkward input through the whole program: right, or one sentence before anything is
written."""

import json
import os

import numpy as np
import pytest
from PIL import Image


def draw(seed, top=160):
    return np.random.default_rng(seed).integers(30, top, (24, 20))


@pytest.fixture
def folder(tmp_path):
    """Writes images of good parts by name; gives their folder."""

    def write(*names, where="in", bits=8):
        for number, name in enumerate(names):
            path = tmp_path / where / name
            path.parent.mkdir(parents=True, exist_ok=True)
            array = draw(number) if bits == 8 else draw(number, 2**bits)
            Image.fromarray(array.astype("uint8" if bits == 8 else "uint16")).save(path)
        return tmp_path / where

    return write


@pytest.fixture
def synth(anojax, tmp_path):
    def run(source, *more, output="run"):
        return anojax(
            *("synth", "--method", "spot", "--input", source, "--size", 16),
            *("--foreground", "none", "--output", tmp_path / output, *more),
        )

    return run


def rows(run):
    return [
        json.loads(line) for line in (run / "manifest.jsonl").read_text().splitlines()
    ]


@pytest.mark.parametrize(
    "name",
    ["part #1.png", "50% & 'x'.png", 'a"b.png', "two\nlines.png", "²5.png", "n" * 250 + ".png",
     "外观检测工位相机零件图像" * 6 + ".png", "back\\slash.png", "-rf.png", " .png"],
)  # fmt: skip
@pytest.mark.parametrize("format", ["mvtec", "tfds"])
def test_any_name_of_a_file_works(synth, anojax, folder, tmp_path, name, format):
    source = folder(name, "other.png")
    code, _, err = synth(source, "--format", format)
    assert code == 0, err
    made = rows(tmp_path / "run")
    assert sorted(row["source"] for row in made) == sorted(
        str(source / n) for n in (name, "other.png")
    )
    # The same command again, and verify, read the names back.
    assert synth(source, "--format", format)[0] == 0
    code, _, err = anojax("verify", tmp_path / "run")
    assert code == 0, err


@pytest.mark.parametrize("name", ["Line #2", "two\nlines", "d" * 250])
def test_any_name_of_the_folder_works(synth, anojax, folder, tmp_path, name):
    code, _, err = synth(folder("1.png", "2.png", where=name))
    assert code == 0, err
    assert anojax("verify", tmp_path / "run")[0] == 0


def test_a_folder_whose_name_is_not_utf8_is_refused(synth, folder, tmp_path):
    source = os.fsencode(folder("1.png")) + b"\xe9"
    os.rename(folder("1.png"), source)
    code, _, err = synth(os.fsdecode(source))
    assert code == 2 and "is not UTF-8; rename" in err
    assert not (tmp_path / "run").exists()


def test_an_output_in_the_input_is_no_input(synth, anojax, folder, tmp_path):
    source = folder("1.png", "2.png")
    for name in ("one", "two", "one"):
        assert synth(source, output=f"in/{name}")[0] == 0
        assert len(rows(source / name)) == 2
    code, out, _ = synth(source, output="three")
    assert code == 0 and "left out: 2 runs of anojax" in out
    assert anojax("verify", source / "one")[0] == 0


def test_twelve_bits_in_and_out(synth, anojax, folder, tmp_path):
    names = [f"{i}.tif" for i in range(5)]
    source = folder(*names, bits=12)
    code, out, err = synth(source, "--native")
    assert code == 0, err
    assert "12 bits of 16" in out
    made = rows(tmp_path / "run")
    images = [np.asarray(Image.open(tmp_path / "run" / row["image"])) for row in made]
    assert max(image.max() for image in images) <= 4095
    # A bright square of 0.8 to 1 of the sensor's range, not of the file's.
    assert max(image.max() for image in images) > 0.75 * 4095
    assert all(row["contrast"] > 0.05 for row in made)
    assert anojax("verify", tmp_path / "run")[0] == 0
    assert synth(source, "--bits", 16, output="deep")[0] == 0
    normal = rows(tmp_path / "deep")[0]["normal"]
    assert np.asarray(Image.open(tmp_path / "deep" / normal)).max() < 20


def test_masks_beside_the_images(synth, folder, tmp_path):
    source = folder("a.png", "b.png", "c.png")
    for name, value in (("a", 0), ("b", 0), ("c", 255)):
        mask = np.zeros((24, 20), np.uint8)
        mask[3:9, 4:9] = value
        Image.fromarray(mask).save(source / f"{name}_label.bmp")
    code, out, err = synth(source)
    assert code == 0 and "masks layout" in out, err
    assert [os.path.basename(row["source"]) for row in rows(tmp_path / "run")] == [
        "a.png", "b.png",
    ]  # fmt: skip


def test_what_is_not_certain_is_asked_for(synth, folder, tmp_path):
    source = folder("1.png", "NG/2.png")
    code, _, err = synth(source)
    assert code == 2 and "1 in 'NG'" in err and "--normal" in err
    assert not (tmp_path / "run").exists()
    assert synth(source, "--normal", "1*")[0] == 0
    assert len(rows(tmp_path / "run")) == 1
    assert synth(source, "--layout", "plain", output="all")[0] == 0
    assert len(rows(tmp_path / "all")) == 2


def test_frames_are_not_dropped_without_a_word(synth, tmp_path):
    (tmp_path / "in").mkdir()
    pages = [Image.fromarray(draw(i).astype(np.uint8)) for i in range(3)]
    pages[0].save(tmp_path / "in/roll.tif", save_all=True, append_images=pages[1:])
    code, _, err = synth(tmp_path / "in")
    assert code == 2 and "holds 3 frames" in err and "--frames first" in err
    assert synth(tmp_path / "in", "--frames", "first")[0] == 0


@pytest.mark.parametrize("paint", ["alpha", "uint16", "int32", "classes"])
def test_regions_of_every_kind(synth, folder, tmp_path, paint):
    source = folder("1.png", "2.png")
    where = np.zeros((24, 20), np.uint8)
    where[:, :9] = 1
    path = tmp_path / ("roi.tif" if paint == "int32" else "roi.png")
    if paint == "alpha":
        four = np.zeros((24, 20, 4), np.uint8)
        four[..., 3] = 255 * where
        Image.fromarray(four).save(path)
    elif paint == "classes":
        where[:3] = 7
        Image.fromarray(where).save(path)
    else:
        Image.fromarray(where.astype(paint)).save(path)
    code, _, err = synth(source, "--region", path, "--strict")
    if paint == "classes":
        assert code == 2 and "not binary" in err and "--mask-classes 1,7" in err
        code, _, err = synth(source, "--region", path, "--mask-classes", 1)
    assert code == 0, err


def test_the_doctor_shows_the_decision_as_a_table(anojax, folder):
    source = folder("OK/1.png", "OK/2.png", "NG/3.png", "4.png")
    code, out, _ = anojax("doctor", "--input", source, "--foreground", "none")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["OK", "2", "normal"] in lines
    assert ["NG", "1", "test:", "NG"] in lines
    assert [".", "1", "left", "out"] in lines
    source = folder("1.png", "defects/2.png", where="other")
    code, out, _ = anojax("doctor", "--input", source, "--json")
    assert code == 1
    assert json.loads(out)["folders"] == [
        {"folder": ".", "images": 1, "taken": "not certain"},
        {"folder": "defects", "images": 1, "taken": "anomalous, by its folder"},
    ]


CONFIG = (
    "methods: [spot]\ndata:\n  input: Prüfteile\n  size: [16, 16]\n  foreground: none\n"
)


BOMB = b"a0: &a0 [1, 1]\n" + b"".join(
    b"a%d: &a%d [*a%d, *a%d]\n" % (i, i, i - 1, i - 1) for i in range(1, 60)
)
MERGES = b"a0: &a0 {k: 1}\n" + b"".join(
    b"a%d: &a%d {<<: [*a%d, *a%d]}\n" % (i, i, i - 1, i - 1) for i in range(1, 60)
)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (CONFIG.encode(), None),
        (CONFIG.replace("\n", "\r\n").encode(), None),
        (b"\xef\xbb\xbf" + CONFIG.encode(), None),
        (CONFIG.encode("cp1252"), "is not UTF-8 text"),
        (CONFIG.encode("utf-16"), "is not UTF-8 text"),
        (CONFIG.replace("  size", "\tsize").encode(), "is not valid YAML: line 4"),
        (b"- methods: [spot]\n", "must hold 'key: value' lines"),
        (CONFIG.replace("[spot]", "&m [spot]").encode() + b"settings: {}\n", None),
        (BOMB, "its aliases stand for more than 100000 values"),
        (MERGES, "its aliases stand for more than 100000 values"),
        (b"a: &a [*a]\n", "its aliases stand for more than"),
        (b"a: " + b"[" * 5000, "is not valid YAML"),
        (b"seed: !!python/object/apply:os.system [id]\n", "is not valid YAML: line 1"),
        (b"a: 2026-99-99\n", "is not valid YAML"),
        (b"x" * 2**21, "larger than 1024 KiB"),
    ],
)
def test_configurations(anojax, folder, tmp_path, monkeypatch, data, says):
    folder("1.png", where="Prüfteile")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_bytes(data)
    code, _, err = anojax("synth", "--config", "c.yaml", "--output", "run")
    if says is None:
        assert code == 0, err
    else:
        assert code == 2 and says in err and len(err.splitlines()) == 1, err
        assert not (tmp_path / "run").exists()


def test_devices_and_pipes_as_configuration_and_mask(anojax, synth, folder, tmp_path):
    code, _, err = anojax(
        "synth", "--config", "/dev/zero", "--output", tmp_path / "run"
    )
    assert code == 2 and "is a device" in err
    os.mkfifo(tmp_path / "p.yaml")
    code, _, err = anojax("train", tmp_path / "p.yaml", "--output", tmp_path / "run")
    assert code == 2 and "is a pipe" in err


def test_names_that_no_manifest_can_hold_are_refused_at_once(synth, folder, tmp_path):
    source = folder("1.png")
    code, _, err = synth(source, output=os.fsdecode(b"caf\xe9"))
    assert code == 2 and r"caf\udce9' is not UTF-8; rename" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


def test_names_do_not_steer_the_terminal(synth, folder, tmp_path):
    source = folder("1.png", where="\x1b[2Jin")
    (source / "1.png").write_text("x")
    code, _, err = synth(source)
    assert code == 2 and r"\x1b[2Jin" in err and "\x1b" not in err


def test_what_is_dropped_is_said_in_every_mode(synth, folder):
    source = folder("1.png", "@eaDir/1.png")
    (source / "2.gif").write_bytes(b"GIF89a")
    dropped = {
        ".gif files, which are not read": 1,
        "folders of thumbnails or of the system": 1,
    }
    out = synth(source)[1]
    assert all(f"left out: 1 {reason}" in out for reason in dropped)
    err = synth(source, "--quiet")[2]
    assert all(f"left out 1 {reason}" in err for reason in dropped)
    assert json.loads(synth(source, "--json")[1])["input_left_out"] == dropped
