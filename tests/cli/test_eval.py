"""`anojax eval`: from a training run and a test folder to a report, and what it refuses."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from anojax import registry
from anojax import task as tasks
from anojax.cli.__main__ import main
from anojax.data import exemplars
from anojax.data.records import read_image
from anojax.data.testfolder import find_test_images
from anojax.errors import AnojaxError
from anojax.training.checkpoint import load_variables, save_variables
from anojax.training.trained import load_trained

for _folder in ("training", "data"):
    sys.path.insert(0, str(Path(__file__).parents[1] / _folder))

import fake_sets  # noqa: E402
import toy_task  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _methods():
    """A program that knows the toy method only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "get", lambda name: toy_task.Stripe)
        patch.setattr(tasks, "get", lambda name, stage=None: toy_task.StripeTask)
        yield


@pytest.fixture(scope="module")
def category(tmp_path_factory):
    return fake_sets.mvtec(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(category, tmp_path_factory):
    """The folder of a run of three steps at 32 pixels."""
    folder = tmp_path_factory.mktemp("runs")
    config = {
        "method": "toy_task",
        "data": {"input": str(category), "size": 32, "foreground": "none"},
        "settings": {},
        "task": {"width": 3, "optimizer": {"learning_rate": 0.01}},
        "length": 3,
        "batch_size": 4,
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    words = ("--output", folder / "run", "--devices", 1, "--quiet")
    assert main([str(w) for w in ("train", folder / "c.yaml", *words)]) == 0
    return folder / "run"


@pytest.fixture
def evaluate(trained, category, tmp_path, capsys):
    """Runs the command; returns (exit code, stdout, stderr)."""

    def run(*more, run=trained, data=category):
        capsys.readouterr()
        words = ("eval", run, "--input", data, "--output", tmp_path / "out", *more)
        code = main([str(word) for word in words])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


@pytest.fixture
def damaged(trained, tmp_path):
    """A copy of the run, to be spoiled."""
    return Path(shutil.copytree(trained, tmp_path / "damaged"))


@pytest.fixture
def copied(category, tmp_path):
    """A copy of the images, to be spoiled."""
    return Path(shutil.copytree(category, tmp_path / "copied"))


def refused(result, *words):
    code, out, err = result
    assert code == 2 and not out
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("anojax: "), err
    for word in words:
        assert str(word) in err, (word, err)


def test_table_report_and_images(evaluate, tmp_path):
    code, out, err = evaluate()
    assert code == 0, err
    assert "scratch" in out and "AUPRO" in out and "at 32 x 32" in " ".join(out.split())
    assert f"report      {tmp_path / 'out' / 'report.html'}" in out
    scores = json.loads((tmp_path / "out/scores.json").read_text())
    assert [row["name"] for row in scores["rows"]] == ["all", "scratch"]
    assert (scores["rows"][1]["normal"], scores["rows"][1]["anomalous"]) == (3, 3)
    # Three images of each of two types, in rows.
    assert read_image(tmp_path / "out/sheet.png").array.shape[0] > 6 * 200
    assert read_image(tmp_path / "out/curves.png").array.shape[1] > 400
    page = (tmp_path / "out/report.html").read_text()
    assert "detector of toy_task" in page and "data:image/png" in page


def test_scores_are_those_of_the_detector_on_these_files(evaluate, trained, category):
    code, out, err = evaluate("--json", "--size", 24, "--batch-size", 4)
    assert code == 0, err
    said = json.loads(out)
    assert said["size"] == [24, 24] and said["method"] == "toy_task"
    variables, _ = load_variables(trained / "model")
    detector, scores, maps, truths, labels = toy_task.StripeDetector(3), [], [], [], []
    for name in ("good", "scratch"):
        for path in sorted((category / "test" / name).iterdir()):
            with Image.open(path) as file:
                image = np.asarray(file, np.float32) / np.float32(255)
            found, score = detector.score(variables, image)
            truth = fake_sets.mask() > 0
            scores.append(float(score))
            maps.append(np.asarray(found).ravel())
            labels.append(name != "good")
            truths.append((truth if name != "good" else 0 * truth).ravel())
    pixels, truths = np.concatenate(maps), np.concatenate(truths).astype(bool)
    row = said["rows"][0]
    assert row["image_auroc"] == pytest.approx(roc_auc_score(labels, scores))
    # Batches and single images differ in the last bits, hence in some ranks.
    assert row["pixel_auroc"] == pytest.approx(roc_auc_score(truths, pixels), abs=1e-5)
    ap = average_precision_score(truths, pixels)
    assert row["pixel_ap"] == pytest.approx(ap, abs=1e-5)


def test_the_task_of_the_run_is_rebuilt(trained):
    task = load_trained(trained).task
    assert task.width == 3 and task.optimizer.learning_rate == 0.01
    assert task.clean_share == 0.5 and task.synth == toy_task.Stripe()


def test_batch_size_changes_nothing(evaluate):
    one, four = (
        json.loads(evaluate("--json", "--batch-size", n)[1])["rows"] for n in (1, 4)
    )
    for a, b in zip(one, four, strict=True):
        assert a["name"] == b.pop("name") and a.pop("name")
        assert a == pytest.approx(b, abs=1e-4)


def learned_from(run, *images):
    """Makes a run one that has learned from these defects."""
    rows = [{"picture": str(p), "sha256": exemplars.digest(p)} for p in images]
    (run / exemplars.FILE).write_text(json.dumps({"exemplars": rows}))


def test_images_that_were_learned_from_are_left_out(evaluate, damaged, category):
    first, second, _ = sorted((category / "test/scratch").iterdir())
    learned_from(damaged, first, second)
    code, out, err = evaluate(run=damaged)
    assert code == 0, err
    assert "2 images left out, which the run has learned from" in out
    assert "on the 4 test images" in " ".join(out.split())
    said = json.loads(evaluate("--json", run=damaged)[1])
    assert [row["anomalous"] for row in said["rows"]] == [1, 1]
    assert "left out" not in evaluate()[1]  # by a run that has seen none


def test_copies_of_what_was_learned_from_are_left_out_too(
    evaluate, damaged, copied, category
):
    learned_from(damaged, category / "test/scratch/001.png")
    (copied / "test/scratch/001.png").rename(copied / "test/scratch/009.png")
    (copied / "ground_truth/scratch/001_mask.png").rename(
        copied / "ground_truth/scratch/009_mask.png"
    )
    assert "1 images left out" in evaluate(run=damaged, data=copied)[1]


def test_what_earlier_runs_learned_from_is_left_out(
    evaluate, trained, damaged, category, tmp_path
):
    learned_from(damaged, category / "test/scratch/001.png")
    later = Path(shutil.copytree(trained, tmp_path / "later"))
    config = yaml.safe_load((later / "config.yaml").read_text())
    config["request"]["init_from"] = str(damaged)
    (later / "config.yaml").write_text(yaml.safe_dump(config))
    assert "1 images left out" in evaluate(run=later)[1]
    shutil.rmtree(damaged)
    out = " ".join(evaluate(run=later)[1].split())
    assert "damaged is gone, on which the run builds" in out


def test_a_run_that_has_seen_every_defect(evaluate, damaged, category):
    learned_from(damaged, *(category / "test/scratch").iterdir())
    refused(evaluate(run=damaged), "has learned from every anomalous image")


@pytest.mark.parametrize("part", ["test", "alone", "above"])
def test_other_ways_to_name_the_folder(copied, part):
    """The test folder itself, a test split alone, and the folder around one category."""
    if part == "alone":
        shutil.rmtree(copied / "train")
    folder = {"test": copied / "test", "alone": copied, "above": copied.parent}[part]
    if part == "above":
        folder = copied.parent / "all"
        folder.mkdir()
        copied.rename(folder / "widget")
    found = find_test_images(folder)
    assert [one.defect for one in found] == ["good"] * 3 + ["scratch"] * 3
    assert all(one.mask is not None for one in found[3:])


def test_other_layouts(tmp_path):
    for make in (fake_sets.btad, fake_sets.visa):
        found = find_test_images(make(tmp_path / make.__name__))
        assert {one.defect == "good" for one in found} == {True, False}


def test_empty_masks_of_normal_images_are_no_strays(copied):
    nothing = np.zeros((24, 24), np.uint8)
    fake_sets.save(copied / "ground_truth/good/000_mask.png", nothing)
    assert len(find_test_images(copied)) == 6


def test_run_folders_that_are_none(evaluate, tmp_path, category, damaged):
    refused(evaluate(run=tmp_path / "nowhere"), "no run folder", "nowhere")
    refused(evaluate(run=category), "not the folder of a training run", category)
    synthetic = tmp_path / "synthetic"
    synthetic.mkdir()
    request = {"input": str(category), "methods": ["toy_task"]}
    (synthetic / "config.yaml").write_text(yaml.safe_dump({"request": request}))
    refused(evaluate(run=synthetic), "not the folder of a training run")
    shutil.rmtree(damaged / "model")
    refused(evaluate(run=damaged), "holds no model yet")
    assert not (tmp_path / "out").exists()


def test_a_half_written_model(evaluate, damaged):
    (step,) = (damaged / "model").iterdir()
    shutil.rmtree(step / "state" / "d")
    refused(evaluate(run=damaged), "half-written or damaged")
    step.rename(damaged / "model" / "0.orbax-checkpoint-tmp")
    refused(evaluate(run=damaged), "only the unfinished 0.orbax-checkpoint-tmp")


def test_a_model_of_another_method(evaluate, damaged, trained):
    variables, record = load_variables(trained / "model")
    save_variables(damaged / "model", variables, method="nsa", config=record.config)
    refused(evaluate(run=damaged), "is of method 'nsa', not 'toy_task'")


def test_a_model_of_another_shape(evaluate, damaged):
    text = (damaged / "config.yaml").read_text()
    assert "width: 3" in text
    (damaged / "config.yaml").write_text(text.replace("width: 3", "width: 5"))
    refused(evaluate(run=damaged), "another shape", "ScopeParamShapeError")


def test_images_of_another_kind(evaluate):
    refused(evaluate("--gray"), "another shape", "for gray images of 32 x 32")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("ground_truth", ("no ground truth", "ground_truth/<defect>")),
        ("ground_truth/scratch/001_mask.png", ("1 anomalous", "001.png")),
        ("test/scratch/001.png", ("1 masks have no image", "001_mask.png")),
        ("test/scratch", ("no anomalous image",)),
        ("test/good", ("no normal image",)),
        ("test", ("no test split",)),
        (".", ("there is no folder",)),
    ],
)
def test_test_folders_that_cannot_be_used(evaluate, copied, tmp_path, spoil, words):
    path = copied / spoil
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    refused(evaluate(data=copied), *words)
    assert not (tmp_path / "out").exists()


def test_images_that_differ(copied, evaluate):
    fake_sets.save(copied / "test/good/001.png", fake_sets.sample_image(1, 1))
    refused(evaluate("--quiet", data=copied), "001.png", "1 channels", "has 3")


@pytest.mark.parametrize(
    ("flag", "value"), [("--size", "8"), ("--size", "big"), ("--batch-size", "0")]
)
def test_arguments_out_of_range(evaluate, flag, value):
    refused(evaluate(flag, value), flag, value)


def test_a_run_on_precomputed_anomalies_needs_a_size(evaluate, damaged):
    config = yaml.safe_load((damaged / "config.yaml").read_text())
    config["request"]["data"]["precomputed"] = "/runs/synthetic"
    (damaged / "config.yaml").write_text(yaml.safe_dump(config))
    refused(evaluate(run=damaged), "give their size with --size")
    assert evaluate("--size", 32, "--quiet", run=damaged)[0] == 0


def test_output_that_is_a_file(evaluate, tmp_path):
    (tmp_path / "out").write_text("taken")
    refused(evaluate("--quiet"), "cannot write", tmp_path / "out")


def test_a_method_without_a_detector(trained, monkeypatch):
    monkeypatch.setattr(toy_task.StripeTask, "detector", lambda self: None)
    with pytest.raises(AnojaxError, match="trains no detector"):
        load_trained(trained).check_detects()
