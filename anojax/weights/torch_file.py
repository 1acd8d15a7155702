"""A reader for PyTorch checkpoints that needs no PyTorch and runs no code of theirs.

A checkpoint is a pickle, and a pickle may call anything. This one may only build
ordered dictionaries, tensors, parameters and storages; any other name is an error.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from anojax.errors import DataError

STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read_torch(path: Path | str) -> dict[str, Any]:
    """The object in a ``.pth`` file, its tensors as numpy arrays.

    Reads both formats of `torch.save`, the zip archive and the older stream.

    Raises:
      DataError: the file is neither, is damaged, or asks for anything but tensors.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                return _read_zip(file)
            file.seek(0)
            return _read_stream(file)
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
    ) as error:
        raise DataError(
            f"{path} cannot be read as a PyTorch checkpoint ({error}); save the "
            "state_dict alone, best as .safetensors"
        ) from error


def _read_zip(file: io.BufferedIOBase) -> Any:
    with zipfile.ZipFile(file) as archive:
        inner = [n for n in archive.namelist() if n.endswith("data.pkl")]
        root = inner[0].removesuffix("data.pkl")
        order = f"{root}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise pickle.UnpicklingError("big-endian numbers")

        def storage(kind: str, key: str, count: int) -> np.ndarray:
            dtype = _dtype(kind)
            data = archive.read(f"{root}data/{key}")
            return np.frombuffer(data, dtype, count)

        return _Unpickler(io.BytesIO(archive.read(inner[0])), storage).load()


def _read_stream(file: io.BufferedIOBase) -> Any:
    """The format before PyTorch 1.6: the pickle first, its storages after it."""
    storages: dict[str, np.ndarray] = {}

    def storage(kind: str, key: str, count: int) -> np.ndarray:
        return storages.setdefault(key, np.zeros(count, _dtype(kind)))

    magic = _Unpickler(file, storage).load()
    if magic != LEGACY_MAGIC:
        raise pickle.UnpicklingError("unknown format")
    for _ in ("protocol", "system"):
        _Unpickler(file, storage).load()
    result = _Unpickler(file, storage).load()
    for key in _Unpickler(file, storage).load():
        target = storages[key]
        count = int.from_bytes(file.read(8), "little", signed=True)
        data = file.read(target.nbytes)
        if count != target.size or len(data) != target.nbytes:
            raise EOFError("the file ends within a tensor")
        target[:] = np.frombuffer(data, target.dtype)
    return result


def _dtype(kind: str) -> np.dtype:
    if STORAGES[kind] == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(STORAGES[kind])


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BufferedIOBase, storage):
        super().__init__(file, encoding="utf-8")
        self.storage = storage

    def persistent_load(self, pid: tuple) -> np.ndarray:
        tag, kind, key, _device, count, *view = pid
        if tag != "storage" or any(v is not None for v in view):
            raise pickle.UnpicklingError(f"reference to {tag!r}")
        return self.storage(kind, str(key), int(count))

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return name
        allowed = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return allowed[module, name]


def _tensor(
    storage: np.ndarray, offset: int, size: tuple, stride: tuple, *_: Any
) -> np.ndarray:
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    inside = offset >= 0 and min(stride, default=0) >= 0 and last < storage.size
    if 0 in size:
        return np.zeros(size, storage.dtype)
    if not inside or min(size, default=1) < 0:
        raise pickle.UnpicklingError("a tensor reaches outside its storage")
    step = storage.itemsize
    # A view: in the older format the storage is filled only after the pickle.
    return np.lib.stride_tricks.as_strided(
        storage[offset:], size, [s * step for s in stride]
    )


def _parameter(tensor: np.ndarray, *_: Any) -> np.ndarray:
    return tensor
