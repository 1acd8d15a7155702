"""A diffusion model from images to images: trained, then used by `synth`."""

import json

import numpy as np
import pytest
import yaml

from anojax.data.records import read_image

from .conftest import draw, write_image

SETTINGS = {
    "width": 4,
    "multipliers": [1, 2],
    "attention_at": [],
    "blocks": 1,
    "head_channels": 4,
    "norm_groups": 2,
    "steps": 2,
    "on_empty": "rescale",
}


@pytest.fixture(scope="module")
def program():
    from anojax.cli.__main__ import main

    return lambda *words: main([str(word) for word in words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("realnet")
    for i in range(4):
        write_image(folder / "good" / f"part{i}.png", draw(i, (16, 16), 1))
    return folder


@pytest.fixture(scope="module")
def trained(program, folder):
    config = {
        "method": "realnet",
        "data": {"input": str(folder / "good"), "size": 16, "gray": True},
        "settings": SETTINGS,
        "length": 2,
        "batch_size": 4,
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    words = ("--output", folder / "run", "--devices", 1, "--quiet")
    assert program("train", folder / "c.yaml", *words) == 0
    return folder / "run"


def test_images_of_a_trained_model(program, folder, trained):
    made = folder / "made"
    code = program(
        *("synth", "--method", "realnet", "--checkpoint", trained),
        *("--input", folder / "good", "--size", 16, "--gray"),
        *("--foreground", "none", "--output", made),
    )
    assert code == 0
    rows = [json.loads(line) for line in (made / "manifest.jsonl").open()]
    assert len(rows) == 4 and all(row["anomalous"] for row in rows)
    assert {row["settings"]["steps"] for row in rows} == {2}
    for row in rows:
        image = read_image(made / row["image"]).array
        mask = read_image(made / row["mask"]).array > 0
        before = read_image(row["source"]).array
        np.testing.assert_array_equal(image[~mask], before[~mask])
        assert (image[mask] != before[mask]).mean() > 0.5
    assert program("verify", made, "--quiet") == 0
