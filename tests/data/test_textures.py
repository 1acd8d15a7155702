"""Texture banks: from a folder, and procedural."""

import numpy as np
import pytest
from PIL import Image

from anojax.data.textures import procedural_textures, texture_bank
from anojax.errors import AnojaxError, DataError
from anojax.ops.materials import KINDS

SIDE = 64


@pytest.fixture(scope="module")
def bank():
    return texture_bank(None, size=SIDE, channels=3, limit=2 * len(KINDS))


def test_procedural_bank_is_varied_and_never_flat(bank):
    assert bank.shape == (2 * len(KINDS), SIDE, SIDE, 3)
    assert bank.dtype == np.uint8
    assert len(KINDS) >= 12
    assert bank.std(axis=(1, 2)).max(axis=1).min() > 4
    flat = bank.reshape(len(bank), -1).astype(np.float32)
    alike = np.corrcoef(flat - flat.mean(axis=1, keepdims=True)) - np.eye(len(bank))
    assert np.abs(alike).max() < 0.95
    # Colors: the bank holds warm and cold, dark and bright ones.
    means = bank.mean(axis=(1, 2))
    assert means.mean(axis=1).std() > 15
    assert np.ptp(means[:, 0] - means[:, 2]) > 40


def test_procedural_textures_depend_on_seed_and_number_alone(bank):
    fewer = procedural_textures(size=SIDE, channels=3, count=5)
    np.testing.assert_array_equal(fewer, bank[:5])
    other = procedural_textures(size=SIDE, channels=3, count=5, seed=1)
    assert (other != fewer).mean() > 0.5


def test_gray_and_oblong():
    kinds = len(KINDS)
    gray = texture_bank(None, size=(24, 40), channels=1, limit=kinds)
    assert gray.shape == (kinds, 24, 40, 1)
    assert gray.std(axis=(1, 2)).min() > 2


def folder_of(root, count):
    for i in range(count):
        path = root / f"kind{i % 3}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        array = np.full((20, 50, 3), i, np.uint8)
        array[:, :15] = 200  # outside the center square
        Image.fromarray(array).save(path)
    return root


def test_folder_takes_the_middle(tmp_path):
    found = texture_bank(folder_of(tmp_path, 6), size=16, channels=3)
    assert found.shape == (6, 16, 16, 3)
    assert sorted({tuple(np.unique(t)) for t in found}) == [(i,) for i in range(6)]
    assert texture_bank(tmp_path, size=16, channels=1).shape == (6, 16, 16, 1)


def test_limit_chooses_the_same_wherever_the_folder_lies(tmp_path):
    banks = [
        texture_bank(
            folder_of(tmp_path / name, 30), size=8, channels=1, limit=7, seed=3
        )
        for name in ("here", "there")
    ]
    assert banks[0].shape[0] == 7
    np.testing.assert_array_equal(*banks)
    other = texture_bank(tmp_path / "here", size=8, channels=1, limit=7, seed=4)
    assert not np.array_equal(other, banks[0])


def test_empty_folder_broken_image_and_wrong_channels(tmp_path):
    with pytest.raises(DataError, match="no image in"):
        texture_bank(tmp_path, size=8, channels=3)
    (tmp_path / "a.png").write_text("no")
    with pytest.raises(DataError, match=r"a\.png is not an image"):
        texture_bank(tmp_path, size=8, channels=3)
    with pytest.raises(AnojaxError, match="give 1 or 3"):
        texture_bank(None, size=8, channels=2)
    with pytest.raises(AnojaxError, match="count from 1"):
        procedural_textures(size=8, channels=3, count=0)
