"""The reader of PyTorch files: equal to PyTorch's own, and deaf to anything else."""

import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from anojax.errors import DataError
from anojax.weights.load import read_state
from anojax.weights.torch_file import read_torch


@pytest.mark.parametrize("zipped", [True, False])
def test_reads_what_pytorch_saves(tmp_path, zipped):
    torch = pytest.importorskip("torch", reason="needs PyTorch", exc_type=ImportError)
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = OrderedDict(
        plain=base,
        turned=base.T,
        window=base[1:3, ::2],
        half=base.to(torch.float16),
        brain=base.to(torch.bfloat16),
        count=torch.tensor(7),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(base * 2),
    )
    path = tmp_path / "state.pth"
    torch.save(
        {"state_dict": state, "epoch": 3}, path, _use_new_zipfile_serialization=zipped
    )
    found = read_state(path)
    assert list(found) == list(state)
    for name, tensor in state.items():
        expected = tensor.detach().float().numpy()
        assert found[name].shape == expected.shape, name
        np.testing.assert_array_equal(found[name].astype(np.float32), expected)
    assert found["turned"].dtype == np.float32
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 40 - 4 * 24])
    with pytest.raises(DataError, match="cannot be read as a PyTorch checkpoint"):
        read_torch(path)


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize("zipped", [True, False])
def test_runs_no_code(tmp_path, zipped):
    path = tmp_path / "evil.pth"
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("evil/data.pkl", pickle.dumps({"a": Evil()}, 2))
    else:
        path.write_bytes(pickle.dumps(Evil(), 2))
    with pytest.raises(DataError, match=r"it refers to (posix|nt|os)\.system"):
        read_torch(path)


def test_tensors_stay_within_their_storage():
    from anojax.weights.torch_file import _tensor

    storage = np.arange(6, dtype=np.float32)
    np.testing.assert_array_equal(_tensor(storage, 1, (2, 2), (3, 1)), [[1, 2], [4, 5]])
    for offset, size, stride in (
        (0, (2, 4), (3, 1)),
        (-1, (2,), (1,)),
        (5, (2,), (-1,)),
        (0, (-1,), (1,)),
        (6, (), ()),
    ):
        with pytest.raises(pickle.UnpicklingError, match="outside its storage"):
            _tensor(storage, offset, size, stride)


def test_only_named_tensors(tmp_path):
    path = tmp_path / "numbers.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("numbers/data.pkl", pickle.dumps({"lr": 0.1}, 2))
    with pytest.raises(DataError, match="holds no named tensors"):
        read_state(path)
