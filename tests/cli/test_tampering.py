"""Whatever is changed in a finished run, `verify` says so in sentences, and `--repair`
makes again what can be made."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anojax.data.files import decode_png, encode_png

from .conftest import draw, fakes, files, write_image

KINDS = {"mvtec": (), "tfds": ("--format", "tfds"), "native": ("--native",)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run of each kind, once; tests work on copies."""
    from anojax import registry
    from anojax.cli.__main__ import main

    base = tmp_path_factory.mktemp("made")
    for i in range(4):
        write_image(base / "parts" / f"part{i}.png", draw(i))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in fakes.REPLACED.items():
            patch.setattr(registry, name, value)
        for kind, options in KINDS.items():
            argv = ["synth", "--method", "spot,weave", "--input", base / "parts"]
            argv += ["--size", 16, "--foreground", "none", "--set", "spot.empty=0.4"]
            argv += ["--output", base / kind, "--quiet", *options]
            assert main([str(word) for word in argv]) == 0
    return base


@pytest.fixture
def copy(made, tmp_path):
    def copied(kind):
        shutil.copytree(made / kind, tmp_path / "run")
        return tmp_path / "run"

    return copied


def lines(run):
    return (run / "manifest.jsonl").read_text().splitlines(keepends=True)


def put(run, changed):
    (run / "manifest.jsonl").write_text("".join(changed))


def field(name, value, number=2):
    """Another value in a line of the manifest."""

    def tamper(run):
        found = lines(run)
        values = json.loads(found[number])
        values[name] = value(values[name]) if callable(value) else value
        found[number] = json.dumps(values) + "\n"
        put(run, found)

    return tamper


def text(name, old, new):
    """Another word in a file."""

    def tamper(run):
        path = run / name
        before = path.read_text()
        assert old in before
        path.write_text(before.replace(old, new, 1))

    return tamper


def flip(pattern, place, bit=1):
    """Another bit in a file, at a place or a fraction of it."""

    def tamper(run):
        path = sorted(run.glob(pattern))[0]
        data = bytearray(path.read_bytes())
        index = int(place * len(data)) if isinstance(place, float) else place
        data[index] ^= bit
        path.write_bytes(bytes(data))

    return tamper


def on(pattern, do):
    """Something else that is done to a file."""
    return lambda run: do(sorted(run.glob(pattern))[0])


def to_manifest(do):
    return lambda run: put(run, do(lines(run)))


def add(name, data=b"x"):
    def tamper(run):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(data)

    return tamper


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def longer(path):
    path.write_bytes(path.read_bytes() + b"\0\0")


def emptied(path):
    path.write_bytes(b"")


def linked(path):
    """The same bytes, behind a link."""
    elsewhere = path.parents[3] / "elsewhere"
    elsewhere.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(elsewhere)


def piped(path):
    path.unlink()
    os.mkfifo(path)


def foldered(path):
    path.unlink()
    path.mkdir()


def other_pixels(path):
    pixels = decode_png(path.read_bytes())
    pixels[3, 4] ^= 1
    path.write_bytes(encode_png(pixels))


def saved_anew(path):
    with Image.open(path) as image:
        again = image.copy()
    again.save(path)


def other_image_and_hash(run):
    """The image and its hash in the manifest fit each other, and nothing else."""
    found = lines(run)
    values = json.loads(found[1])
    path = run / values["image"]
    other_pixels(path)
    from anojax.data.files import sha256

    values["sha256"] = sha256(path.read_bytes())
    found[1] = json.dumps(values) + "\n"
    put(run, found)


def exchanged(run):
    """Two images of a method in each other's place."""
    one, two = sorted(run.glob("parts/test/spot/*.png"))[:2]
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)


IMAGE, MASK = "parts/test/spot/*.png", "parts/ground_truth/weave/*.png"
NORMAL = "parts/train/good/*.png"
TAMPERINGS = {
    "image: a bit": flip(IMAGE, 0.5),
    "image: its header": flip(IMAGE, 17),
    "image: its end": flip(IMAGE, -2),
    "image: cut": on(IMAGE, cut),
    "image: longer": on(IMAGE, longer),
    "image: empty": on(IMAGE, emptied),
    "image: gone": on(IMAGE, os.unlink),
    "image: another pixel": on(IMAGE, other_pixels),
    "image: saved anew": on(IMAGE, saved_anew),
    "image: a link": on(IMAGE, linked),
    "image: a pipe": on(IMAGE, piped),
    "image: a folder": on(IMAGE, foldered),
    "images: exchanged": exchanged,
    "image and its hash": other_image_and_hash,
    "mask: a bit": flip(MASK, 0.5),
    "mask: gone": on(MASK, os.unlink),
    "mask: another pixel": on(MASK, other_pixels),
    "mask: cut": on(MASK, cut),
    "normal: a bit": flip(NORMAL, 0.5),
    "normal: gone": on(NORMAL, os.unlink),
    "normal: another pixel": on(NORMAL, other_pixels),
    "normal: saved anew": on(NORMAL, saved_anew),
    "normal: longer": on(NORMAL, longer),
    "folder: gone": lambda run: shutil.rmtree(run / "parts/test/weave"),
    "sheet: gone": on("sheet.png", os.unlink),
    "sheet: a bit": flip("sheet.png", 0.5),
    "report: gone": on("report.html", os.unlink),
    "report: a word": text("report.html", "spot", "spat"),
    "report: empty": on("report.html", emptied),
    "finished: gone": on("finished.json", os.unlink),
    "finished: no JSON": text("finished.json", "{", "["),
    "finished: empty": on("finished.json", emptied),
    "finished: counts": text("finished.json", '"images": ', '"images": 1'),
    "finished: redrawn": text("finished.json", '"redrawn": ', '"redrawn": 3'),
    "finished: a hash": text(
        "finished.json", '"manifest.jsonl": "', '"manifest.jsonl": "0'
    ),
    "finished: not UTF-8": on("finished.json", lambda p: p.write_bytes(b"\xff\xfe")),
    "manifest: gone": on("manifest.jsonl", os.unlink),
    "manifest: empty": on("manifest.jsonl", emptied),
    "manifest: first line gone": to_manifest(lambda rows: rows[1:]),
    "manifest: last line gone": to_manifest(lambda rows: rows[:-1]),
    "manifest: a line in the middle gone": to_manifest(lambda r: r[:3] + r[4:]),
    "manifest: doubled line": to_manifest(lambda rows: [*rows[:3], *rows[2:]]),
    "manifest: doubled line at the end": to_manifest(lambda rows: [*rows, rows[2]]),
    "manifest: exchanged lines": to_manifest(lambda r: [r[1], r[0], *r[2:]]),
    "manifest: turned round": to_manifest(lambda rows: rows[::-1]),
    "manifest: another's line": to_manifest(
        lambda r: [*r, r[0].replace('"spot"', '"spot2"')]
    ),
    "manifest: torn": to_manifest(lambda rows: [*rows[:-1], rows[-1][:-9]]),
    "manifest: no JSON": to_manifest(lambda rows: [*rows[:2], "what\n", *rows[3:]]),
    "manifest: a number": to_manifest(lambda rows: [*rows[:2], "3\n", *rows[3:]]),
    "manifest: an empty line": to_manifest(lambda rows: [*rows[:2], "\n", *rows[2:]]),
    "manifest: zeros": on(
        "manifest.jsonl", lambda p: p.write_bytes(b"\0" * 90 + p.read_bytes()[90:])
    ),
    "manifest: spaces": text("manifest.jsonl", '"seed": 0', '"seed":  0'),
    "manifest: no end of line": to_manifest(lambda r: [*r[:-1], r[-1].rstrip("\n")]),
    "manifest: a link": lambda run: (
        (run / "manifest.jsonl").rename(run.parent / "m"),
        (run / "manifest.jsonl").symlink_to(run.parent / "m"),
    ),
    "row: seed": field("seed", 1),
    "row: draw": field("draw", 7),
    "row: example id": field("example_id", 77),
    "row: example id of another type": field("example_id", "0"),
    "row: method": field("method", "weave"),
    "row: settings": field("settings", {}),
    "row: a setting": field("settings", lambda v: v | {"side": 5}),
    "row: area": field("area", lambda v: v + 1e-6),
    "row: box": field("box", lambda v: [v[0], v[1], v[2] + 1, v[3]]),
    "row: box of text": field("box", "all"),
    "row: box of three": field("box", [1, 2, 3]),
    "row: no box": field("box", None),
    "row: contrast": field("contrast", lambda v: v / 2),
    "row: contrast is no number": field("contrast", float("nan")),
    "row: size": field("size", [16, 17]),
    "row: source": field("source", lambda v: v.replace("part", "port")),
    "row: normal": field("normal", lambda v: v.replace("part", "port")),
    "row: image": field("image", lambda v: v.replace("part", "port")),
    "row: image outside": field("image", "../parts/part0.png"),
    "row: image absolute": field("image", "/etc/passwd"),
    "row: image a device": field("image", "/dev/zero"),
    "row: image is null": field("image", None),
    "row: mask outside": field("mask", "../../x_mask.png"),
    "row: mask missing": field("mask", None),
    "row: not anomalous": field("anomalous", False),
    "row: anomalous is a number": field("anomalous", 1),
    "row: hash": field("sha256", lambda v: v[::-1]),
    "row: hash of the mask": field("mask_sha256", None),
    "row: hash of the normal image": field("normal_sha256", ""),
    "row: hashes of the inputs": field("inputs_sha256", {}),
    "row: one value more": to_manifest(
        lambda rows: [rows[0].replace("{", '{"more": 1, ', 1), *rows[1:]]
    ),
    "config: seed": text("config.yaml", "seed: 0", "seed: 1"),
    "config: a setting": text("config.yaml", "side: 6", "side: 7"),
    "config: a version": text("config.yaml", "numpy: ", "numpy: 1"),
    "config: mask rule": text("config.yaml", "mask_rule: written\n", ""),
    "config: a comment": text("config.yaml", "request:", "# mine\nrequest:"),
    "config: hash": text("config.yaml", "\nhash: ", "\nhash: a"),
    "config: a method less": text("config.yaml", "[spot, weave]", "[spot]"),
    "config: no YAML": text("config.yaml", "request:", "request: ["),
    "config: a list": on("config.yaml", lambda p: p.write_text("[1, 2]")),
    "config: gone": on("config.yaml", os.unlink),
    "extra: an image": add("parts/test/spot/more.png"),
    "extra: a mask": add("parts/ground_truth/spot/more_mask.png"),
    "extra: a normal image": add("parts/train/good/more.png"),
    "extra: a note": add("notes.txt"),
    "extra: a hidden file": add("parts/test/.hidden"),
    "extra: a folder": lambda run: (run / "parts/test/scratch").mkdir(),
    "extra: a link": lambda run: (run / "link").symlink_to("/"),
}
BEYOND_REPAIR = (
    "extra",
    "config",
    "row: hashes of the inputs",
)
"""Only what can be made again is repaired: not what was added, nor the request."""


def checked(run, *more):
    """`verify` in this process: code, and what it says; an exception fails the test."""
    from anojax.cli.__main__ import main

    return main(["verify", str(run), "--quiet", *map(str, more)])


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_noticed(name, copy, fake_methods, capsys):
    run = copy("mvtec")
    before = files(run)
    TAMPERINGS[name](run)
    code, said = checked(run), capsys.readouterr().err
    assert code in (1, 2), "not noticed"
    assert said.strip() and "Traceback" not in said
    if name.startswith("config") and name != "config: a comment":
        return
    code = checked(run, "--repair")
    if name.startswith(BEYOND_REPAIR) and name != "config: a comment":
        assert code in (1, 2)
        return
    said = capsys.readouterr().err
    # Neither a link nor a folder is replaced.
    stray = name in ("manifest: a link", "image: a link", "image: a folder")
    assert code == 0 or stray, said
    assert checked(run) == 0 or stray
    if not stray:
        assert files(run) == before


SHARD, NORMALS = "parts/1.0.0/*test*-of-*", "parts/1.0.0/*train*-of-*"
OF_SHARDS = {
    **{f"shard: the bit at {p}": flip(SHARD, p) for p in (0, 9, 0.1, 0.3, 0.5, 0.8)},
    **{f"normals: the bit at {p}": flip(NORMALS, p) for p in (40, 0.4, 0.9, -1)},
    "shard: an unused byte": flip(SHARD, -100),
    "shard: its last byte": flip(SHARD, -1),
    "shard: cut": on(SHARD, cut),
    "shard: half": on(SHARD, lambda p: p.write_bytes(p.read_bytes()[:999])),
    "shard: empty": on(SHARD, emptied),
    "shard: gone": on(SHARD, os.unlink),
    "shard: longer": on(SHARD, longer),
    "shard: other content": on(SHARD, lambda p: p.write_bytes(b"what" * 4000)),
    "shard: a pipe": on(SHARD, piped),
    "normals: gone": on(NORMALS, os.unlink),
    "normals: the test's": lambda run: shutil.copy(
        next(run.glob(SHARD)), next(run.glob(NORMALS))
    ),
    "info: gone": on("parts/1.0.0/dataset_info.json", os.unlink),
    "info: a count": flip("parts/1.0.0/dataset_info.json", 0.5),
    "features: a bit": flip("parts/1.0.0/features.json", 0.5),
    "labels: exchanged": text("parts/1.0.0/label.labels.txt", "spot", "good"),
    "labels: gone": on("parts/1.0.0/label.labels.txt", os.unlink),
    "row: a record that is not there": field(
        "image", lambda v: v.split("#")[0] + "#99"
    ),
    "row: a record of any size": field("image", lambda v: v.split("#")[0] + "#9" * 9),
    "row: another record": field("image", lambda v: v.split("#")[0] + "#0"),
    "row: a negative record": field("image", lambda v: v.split("#")[0] + "#-1"),
    "row: no record": field("image", lambda v: v.split("#")[0]),
    "row: a shard outside": field("image", lambda v: f"../run/{v}"),
    "row: a normal record": field("normal", lambda v: v.split("#")[0] + "#3", 1),
    "extra: a shard": add("parts/1.0.0/parts-test.array_record-00001-of-00002"),
}


def records_written_anew(run, change):
    """The records of the test split, in a file that is whole."""
    from array_record.python import array_record_module as records

    path = next(run.glob(SHARD))
    reader = records.ArrayRecordReader(str(path))
    found = [reader.read([i])[0] for i in range(reader.num_records())]
    reader.close()
    writer = records.ArrayRecordWriter(str(path), "group_size:1")
    for record in change(found):
        writer.write(record)
    writer.close()


OF_SHARDS |= {
    "records: exchanged": lambda run: records_written_anew(
        run, lambda found: [found[1], found[0], *found[2:]]
    ),
    "records: one less": lambda run: records_written_anew(run, lambda f: f[:-1]),
    "records: one more": lambda run: records_written_anew(run, lambda f: [*f, f[0]]),
    "records: a label": lambda run: records_written_anew(run, other_label),
    "records: garbage": lambda run: records_written_anew(run, lambda f: [b"?", *f[1:]]),
}


def other_label(found):
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example.FromString(found[0])
    example.features.feature["label"].int64_list.value[0] = 0
    return [example.SerializeToString(deterministic=True), *found[1:]]


@pytest.mark.parametrize("name", OF_SHARDS)
def test_tampering_with_shards_is_noticed(name, copy, fake_methods, capsys):
    run = copy("tfds")
    before = files(run)
    OF_SHARDS[name](run)
    code, said = checked(run), capsys.readouterr().err
    assert code in (1, 2), "not noticed"
    assert said.strip() and "Traceback" not in said
    code = checked(run, "--repair")
    assert code == (1 if name.startswith("extra") else 0), capsys.readouterr().err
    if code == 0:
        assert files(run) == before


@pytest.mark.parametrize("kind", KINDS)
def test_an_untouched_run_agrees(kind, copy, fake_methods):
    run = copy(kind)
    before = files(run)
    assert checked(run) == 0
    assert checked(run, "--repair") == 0
    assert files(run) == before


@pytest.mark.parametrize("row", [0, -1, 999, 2**70])
def test_a_row_that_is_not_there_is_a_sentence(row, copy, fake_methods, capsys):
    assert checked(copy("mvtec"), "--row", row) == 2
    assert "the manifest has lines 1 to" in capsys.readouterr().err


def test_an_input_with_other_content_is_named(made, copy, fake_methods, capsys):
    run, moved = copy("mvtec"), Path(copy.__closure__[1].cell_contents) / "moved"
    shutil.copytree(made / "parts", moved)
    pixels = np.asarray(Image.open(moved / "part2.png")).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(moved / "part2.png")
    assert checked(run, "--input", moved) == 1
    assert "part2.png or a mask of it has other content" in capsys.readouterr().err
    assert checked(run, "--input", moved, "--repair") == 2
