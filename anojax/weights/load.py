"""Backbones with pretrained weights from files the user has put in place."""

import hashlib
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from anojax.errors import DataError, UnknownName, did_you_mean
from anojax.nn.init import init_network
from anojax.nn.resnet import ARCHITECTURES, STAGES, ResNet, Tap
from anojax.types import PyTree
from anojax.weights.convert import resnet_name, to_flax
from anojax.weights.torch_file import read_torch

LICENSE = (
    "BSD-3-Clause (torchvision); trained on ImageNet, whose images are for "
    "non-commercial research"
)


@dataclass(frozen=True)
class Published:
    """A checkpoint as its publisher names it."""

    file: str
    """torchvision's file; the digits are the start of its SHA-256."""
    timm: str
    """The same weights in timm, as ``<tag>.safetensors``."""
    url: str
    license: str = LICENSE

    @property
    def sha256_start(self) -> str:
        """First digits of the hash of `file`."""
        return self.file.removesuffix(".pth").rsplit("-", 1)[-1]


def _published(name: str, digits: str) -> Published:
    file = f"{name}-{digits}.pth"
    url = f"https://download.pytorch.org/models/{file}"
    return Published(file, f"{name}.tv_in1k", url)


CATALOG = {
    name: _published(name, digits)
    for name, digits in (
        ("resnet18", "f37072fd"),
        ("resnet34", "b627a593"),
        ("resnet50", "0676ba61"),
        ("wide_resnet50_2", "95faca4d"),
    )
}
"""The first ImageNet weights of torchvision, on which the papers built."""

OTHER_SCALES = ("tv2_in1k", "racm_in1k", "a1_in1k", "11ad3fa6", "9ba9bcbe")
"""Marks of other ImageNet weights for these networks in file names."""


@dataclass(frozen=True)
class Backbone:
    """A network with its weights."""

    network: ResNet
    variables: PyTree
    """``params`` and ``batch_stats``, numpy or jax arrays, float32."""
    origin: str
    """Where the weights come from, in words; show it with every result."""

    def __call__(self, x: Array) -> dict[str, Array]:
        """The tapped activations of normalized images, statistics frozen."""
        return self.network.apply(self.variables, x, train=False)


def weights_folder() -> Path:
    """Where weights are looked for: ``$ANOJAX_WEIGHTS``, or the user's cache."""
    if folder := os.environ.get("ANOJAX_WEIGHTS"):
        return Path(folder)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "anojax" / "weights"


def pretrained(
    name: str,
    *,
    path: Path | str | None = None,
    taps: tuple[Tap, ...] = ("layer4",),
    dtype: Any = jnp.float32,
) -> Backbone:
    """A residual network with ImageNet weights.

    `path` is a file with weights of this architecture, torchvision's or timm's; without
    it the published file is looked for in `weights_folder`. Nothing is downloaded.

    Args:
      name: of a network in `CATALOG`.
      path: a file instead of the published one.
      taps: names of the activations to return.
      dtype: of the computation.

    Raises:
      UnknownName: there is no such network.
      DataError: the file is missing, damaged, or of another network.
    """
    network = ResNet(taps=taps, dtype=dtype, **_architecture(name))
    file = find_weights(name) if path is None else Path(path)
    if file.name == CATALOG[name].file:
        _check_hash(file, CATALOG[name].sha256_start)
    if any(mark in file.name for mark in OTHER_SCALES):
        warnings.warn(
            f"{file.name} holds other weights than the papers used "
            f"({CATALOG[name].file}); the scale of its features differs",
            stacklevel=2,
        )
    variables = to_flax(
        read_state(file),
        _shapes(network),
        name=resnet_name,
        unused=unused_keys(network),
        source=str(file),
    )
    return Backbone(network, variables, f"{name} with weights from {file.name}")


def untrained(
    name: str,
    key: Key[Array, ""],
    *,
    width: int = 64,
    taps: tuple[Tap, ...] = ("layer4",),
    dtype: Any = jnp.float32,
) -> Backbone:
    """The same network with random weights: to train it, or as fixed random features.

    A fallback where no weights are at hand; `Backbone.origin` says so.

    Args:
      name: of a network in `CATALOG`.
      key: source of the weights.
      width: channels of the stem.
      taps: names of the activations to return.
      dtype: of the computation.
    """
    network = ResNet(taps=taps, width=width, dtype=dtype, **_architecture(name))
    x = jnp.zeros((1, 64, 64, 3), jnp.float32)
    variables = jax.jit(lambda k, x: init_network(network, k, x, False))(key, x)
    return Backbone(network, variables, f"{name} with random weights, not pretrained")


def find_weights(name: str) -> Path:
    """The published file of a network in `weights_folder`.

    Raises:
      UnknownName: there is no such network.
      DataError: it is not there; says where it goes, whence it comes, its license.
    """
    _architecture(name)
    folder, entry = weights_folder(), CATALOG[name]
    for file in (f"{entry.timm}.safetensors", entry.file):
        if (folder / file).is_file():
            return folder / file
    raise DataError(
        f"the weights of {name} are missing: put {entry.file} (from {entry.url}) or "
        f"{entry.timm}.safetensors (timm/{entry.timm}) into {folder}, or set "
        f"ANOJAX_WEIGHTS to its folder; license: {entry.license}"
    )


def read_state(path: Path | str) -> dict[str, np.ndarray]:
    """Named tensors of a ``.safetensors`` or PyTorch file.

    Raises:
      DataError: the file is missing, damaged, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"the weights file {path} does not exist; give the path of a .safetensors "
            "or .pth file"
        )
    if path.suffix == ".safetensors":
        state = _read_safetensors(path)
    elif path.suffix in (".pth", ".pt", ".bin"):
        state = read_torch(path)
        for wrapper in ("state_dict", "model"):
            if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
                state = state[wrapper]
    else:
        raise DataError(f"{path} ends in {path.suffix!r}; need .safetensors or .pth")
    arrays = isinstance(state, Mapping) and all(
        isinstance(value, np.ndarray) for value in state.values()
    )
    if not arrays or not state:
        raise DataError(f"{path} holds no named tensors; save the state_dict alone")
    return dict(state)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise DataError(
            f"{path} is not a whole .safetensors file ({error}); fetch it again"
        ) from error


def unused_keys(network: ResNet) -> tuple[str, ...]:
    """What a full checkpoint holds beyond the part that `network` builds."""
    beyond = tuple(f"{stage}." for stage in STAGES if stage not in network.stages)
    return beyond if "logits" in network.taps else (*beyond, "fc.")


def _architecture(name: str) -> dict[str, Any]:
    if name not in ARCHITECTURES:
        raise UnknownName(
            f"there is no backbone '{name}'{did_you_mean(name, ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]


def _shapes(network: ResNet) -> PyTree:
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(
        lambda k, x: network.init(k, x, train=False), jax.random.key(0), x
    )


def _check_hash(path: Path, expected: str) -> None:
    if not path.is_file():
        return  # reading it says so
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected):
        raise DataError(
            f"{path} is damaged: its SHA-256 begins with {found[:8]}, expected "
            f"{expected}; fetch it again"
        )
