"""The functions of the front door, as a user calls them."""

import json

import numpy as np
import pytest
from PIL import Image

import anojax
from anojax import compose
from anojax.data import samples
from anojax.data.exemplars import digest
from anojax.data.testset import TestSet
from anojax.errors import AnojaxError, DataError, RunError, SettingError, UnknownName
from anojax.synthesis.config import SynthConfig

SIZE = 32


@pytest.fixture(scope="module")
def images():
    return samples.make("tile", 3, size=(SIZE, SIZE), seed=0)[0]


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    where = tmp_path_factory.mktemp("tile")
    for number, image in enumerate(images):
        Image.fromarray(image).save(where / f"{number}.png")
    return where


def make(input, *args, **options):
    return anojax.synthesize(input, "cutpaste", *args, size=SIZE, quiet=True, **options)


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    return make(folder, tmp_path_factory.mktemp("run") / "run", per_image=2)


def test_a_run_is_a_sequence_of_examples(run):
    assert len(run) == run.facts["images"] == 6
    assert run.config.per_image == 2 and run.config.methods == ("cutpaste",)
    for example in run:
        changed = (example.normal != example.image).any(-1, keepdims=True)
        np.testing.assert_array_equal(changed, example.mask > 0)
    assert anojax.load(run.folder)[-1].example_id == run[-1].example_id


def test_examples_without_a_run_are_those_of_the_run(run, folder):
    made = make(folder, per_image=2)
    assert len(made) == 6
    for one, other in zip(made, run, strict=True):
        assert (one.example_id, one.source) == (other.example_id, other.source)
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.mask, other.mask)


def test_arrays_are_as_good_as_files(run, images, tmp_path):
    floats = [image.astype(np.float64) / 255 for image in images]
    made = make(floats, tmp_path / "run", per_image=2)
    for one, other in zip(made, run, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
    assert anojax.verify(made).problems == []
    make(list(images), tmp_path / "run", per_image=2)  # the same: it is finished
    with pytest.raises(RunError, match="holds the images of another run"):
        make(list(images[::-1]), tmp_path / "run", per_image=2)


def test_shares_become_the_run(run, folder, tmp_path):
    shares = [tmp_path / name for name in "ab"]
    for number, share in enumerate(shares, 1):
        part = make(folder, share, per_image=2, share=f"{number}/2")
        assert part.facts["share"] == f"{number}/2"
    merged = anojax.merge(shares, tmp_path / "run", quiet=True)
    for one, other in zip(merged, run, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
    with pytest.raises(SettingError, match="a folder that all see, not arrays"):
        make([run[0].normal], tmp_path / "c", share="1/2")


def test_masks_may_be_arrays(images):
    half = np.zeros((SIZE, SIZE), bool)
    half[:, : SIZE // 2] = True
    whole = [np.ones((SIZE, SIZE, 1), np.uint8)] * len(images)
    for example in make(list(images), region=half, foreground=whole):
        assert not example.mask[:, SIZE // 2 :].any() and example.mask.any()


def test_settings_and_synthesizers(images):
    plain = [e.image for e in make(list(images[:1]), settings={"variant": "scar"})]
    synth = anojax.get("cutpaste")(variant="scar")
    own = [
        e.image
        for e in anojax.synthesize(list(images[:1]), synth, size=SIZE, quiet=True)
    ]
    np.testing.assert_array_equal(plain, own)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"per_imag": 2}, UnknownName, "'per_imag'; did you mean 'per_image'"),
        ({"setings": {}}, UnknownName, "did you mean 'settings'"),
        ({"severity": 2.0}, SettingError, "severity is 2.0; it must be at most 1"),
        ({"settings": {"jiter": 1}}, UnknownName, "did you mean 'jitter'"),
        ({"overwrite": True}, SettingError, "about a run; give output"),
        ({"defects": 3}, AnojaxError, "has no control over 'defects'"),
    ],
)
def test_mistakes_are_one_sentence(folder, options, error, says):
    with pytest.raises(error, match=says):
        make(folder, **options)


@pytest.mark.parametrize(
    ("input", "says"),
    [
        (np.zeros((SIZE, SIZE, 3), np.uint8), "may be one image or many"),
        ([np.zeros((3, SIZE, SIZE), np.uint8)], "channels first"),
        ([], "is an empty list"),
        (3, "images are int; give a folder, or arrays"),
    ],
)
def test_inputs_that_are_no_images(input, says):
    with pytest.raises(DataError, match=says):
        make(input)


def test_a_composed_synthesizer_is_for_batches(folder):
    composed = compose.maybe(anojax.get("cutpaste")(), 0.5)
    with pytest.raises(
        AnojaxError, match=r"no method of the registry, .* use anojax\.batch"
    ):
        anojax.synthesize(folder, composed)


def test_preview_and_show(folder, run, tmp_path):
    found = anojax.preview(
        folder, "cutpaste", tmp_path / "s.png", size=SIZE, quiet=True
    )
    assert found.examples == 3 and found._repr_png_().startswith(b"\x89PNG")
    assert run[0]._repr_png_().startswith(b"\x89PNG")
    made = anojax.get("cutpaste")().apply({}, 0, run[0].normal)
    assert anojax.show(made, run[0].normal).size == anojax.show(run[0]).size
    with pytest.raises(DataError, match="no normal image; give it as well"):
        anojax.show(made)


@pytest.mark.slow
def test_ten_lines_from_a_folder_to_scores(folder, tmp_path):
    """Synthesize from a folder, train a small detector, evaluate it: the API alone."""
    trained = anojax.train(
        "riad", folder, tmp_path / "riad", size=SIZE, length=2, batch_size=2,
        task={"width": 2}, devices=1, quiet=True,
    )  # fmt: skip
    made = list(make(folder, seed=1))
    test = TestSet(
        np.stack([e.normal for e in made] + [e.image for e in made]),
        np.stack([e.mask[..., 0] * 0 > 0 for e in made] + [e.mask[..., 0] > 0 for e in made]),
        ("good",) * len(made) + ("cutpaste",) * len(made),
    )  # fmt: skip
    found = anojax.evaluate(trained, test, tmp_path / "report", quiet=True)
    assert 0 <= found["image_auroc"] <= 1 and trained.step == 2
    assert "cutpaste" in found._repr_html_() and found.sheet().size[0] > SIZE
    scores = json.loads((tmp_path / "report" / "scores.json").read_text())
    assert scores["rows"][0]["anomalous"] == 3
    again = anojax.evaluate(anojax.load(tmp_path / "riad"), test, quiet=True)
    assert again["image_auroc"] == found["image_auroc"]


def test_training_options_that_do_not_exist(folder, tmp_path):
    with pytest.raises(UnknownName, match="'bach_size'; did you mean 'batch_size'"):
        anojax.train("riad", folder, tmp_path / "run", bach_size=2)
    with pytest.raises(UnknownName, match="no configuration 'riadd'; did you mean"):
        anojax.train("riadd", folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_run_has_seen(folder, tmp_path):
    """Textures, its own and those of runs that its components come from."""
    from anojax.training.trained import seen

    textures = tmp_path / "textures"
    textures.mkdir()
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(textures / "t.png")
    for name, request in {
        "first": {"method": "x", "data": {"textures": str(textures)}},
        "second": {"method": "x", "components": {"net": str(tmp_path / "first")}},
        "third": {"method": "x", "init_from": str(tmp_path / "second")},
        "lost": {"method": "x", "data": {"textures": str(tmp_path / "nowhere")}},
    }.items():
        (tmp_path / name).mkdir()
        text = json.dumps({"request": request})
        (tmp_path / name / "config.yaml").write_text(text)
    known = seen(tmp_path / "third")
    assert list(known.files) == [digest(textures / "t.png")] and not known.gone
    assert "took textures from" in seen(tmp_path / "lost").gone[0]


def test_the_command_finds_what_comes_along(capsys):
    from anojax.cli.__main__ import main

    assert main(["configs", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} == set(anojax.configs())
    assert main(["configs"]) == 0
    assert "DRAEM as published" in capsys.readouterr().out


def test_load_says_what_is_no_run(tmp_path):
    with pytest.raises(RunError, match=r"no run of anojax"):
        anojax.load(tmp_path)


def test_configurations_come_along():
    found = anojax.configs()
    assert {"draem", "realnet", "riad_tile_cpu"} <= set(found)
    assert all(found.values())


def test_the_schema_has_every_option_once():
    import dataclasses

    from anojax.data.config import DataConfig

    own = {f.name for f in dataclasses.fields(SynthConfig)}
    assert not own & {f.name for f in dataclasses.fields(DataConfig)}
