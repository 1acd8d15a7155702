"""Networks as folders in the layout of diffusers: ``config.json`` and safetensors.

The files are read directly: importing diffusers takes seven seconds and 300 MB, for
what is here a page of code.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from anojax.data.files import atomic_write, cannot_write, make_folder, temporary_name
from anojax.errors import DataError, SettingError
from anojax.nn.diffusion_classifier import UNetClassifier
from anojax.nn.diffusion_unet import UNet2D, UNet2DConfig
from anojax.types import PyTree
from anojax.weights.convert import (
    diffusers_name,
    modern_attention,
    to_flax,
    to_torch,
)
from anojax.weights.load import read_state

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model"
"""Name of the file with the weights, without its ending."""

_THEIRS, _OURS = "UNet2DModel", "anojax.UNet2D"


def load_unet(folder: Path | str) -> tuple[UNet2DConfig, PyTree]:
    """The configuration and variables of a ``UNet2DModel`` that diffusers saved.

    `folder` holds the network, or is a pipeline with the network in ``unet/``, or the
    name of a repository of the Hugging Face Hub in the local cache. Nothing is
    downloaded, and PyTorch is not needed.

    Raises:
      DataError: a file is missing or damaged, or tensors are missing or left over.
      SettingError: the configuration names a part that is not built here.
    """
    folder = resolve_folder(folder)
    if not (folder / CONFIG).is_file() and (folder / "unet" / CONFIG).is_file():
        folder = folder / "unet"
    values = read_config(folder)
    if (kind := values.get("_class_name", _THEIRS)) not in (_THEIRS, _OURS):
        raise DataError(f"{folder} holds a {kind}; give the folder of a {_THEIRS}")
    try:
        config = UNet2DConfig.from_dict(values)
    except SettingError as error:
        raise SettingError(f"{folder / CONFIG}: {error}") from error
    state, like = modern_attention(read_weights(folder)), shapes(UNet2D(config=config))
    return config, to_flax(state, like, name=diffusers_name, source=str(folder))


def save_unet(folder: Path | str, config: UNet2DConfig, variables: PyTree) -> None:
    """Write a folder from which diffusers loads the network as a ``UNet2DModel``.

    The weights are float32. A network without its first skip has no counterpart there;
    its folder names another class and is for `load_unet` alone.

    Raises:
      DataError: the variables do not belong to the configuration.
      RunError: the folder cannot be written.
    """
    state = to_torch(variables, name=diffusers_name)
    like = shapes(UNet2D(config=config))
    to_flax(state, like, name=diffusers_name, source="what is to be saved")
    folder = make_folder(Path(folder))
    write_weights(folder, state)
    name = _THEIRS if config.first_skip else _OURS
    values = {"_class_name": name} | config.to_dict()
    atomic_write(folder / CONFIG, json.dumps(values, indent=2, sort_keys=True) + "\n")


def shapes(network: UNet2D | UNetClassifier) -> PyTree:
    """Shapes of the variables of a network, without computing any.

    Raises:
      SettingError: a classifier without `sample_size`.
    """
    config, extra = network.config, ()
    size = (config.side_multiple,) * 2
    if isinstance(network, UNetClassifier):
        if config.sample_size is None:
            raise SettingError(
                "the classifier has parameters for every place, but sample_size is "
                "None; set it to the side of the images"
            )
        size = np.broadcast_to(config.sample_size, 2)
    elif config.class_embed_type == "identity":
        extra = (jax.ShapeDtypeStruct((1, config.embedding_dim), jnp.float32),)
    elif config.class_embed_type == "timestep" or config.num_class_embeds is not None:
        extra = (jax.ShapeDtypeStruct((1,), jnp.int32),)
    x = jax.ShapeDtypeStruct((1, *size, config.in_channels), jnp.float32)
    t = jax.ShapeDtypeStruct((1,), jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), x, t, *extra)


def resolve_folder(name: Path | str) -> Path:
    """A folder as it is, or that of a Hub repository in the local cache.

    Raises:
      DataError: there is neither.
    """
    if (folder := Path(name)).is_dir():
        return folder
    if isinstance(name, str) and name.count("/") == 1 and not name.startswith("."):
        try:
            from huggingface_hub import snapshot_download
            from huggingface_hub.errors import LocalEntryNotFoundError
        except ImportError:
            hint = "pip install 'anojax[hub]' to use names of the Hugging Face Hub"
        else:
            try:
                return Path(snapshot_download(name, local_files_only=True))
            except LocalEntryNotFoundError:
                hint = f"if it is a name of the Hub, first run: hf download {name}"
    else:
        hint = f"give a folder with {CONFIG} and {WEIGHTS}.safetensors"
    raise DataError(f"the folder {name} does not exist; {hint}")


def read_config(folder: Path) -> dict[str, Any]:
    """What a folder's ``config.json`` says."""
    return _read_json(folder / CONFIG)


def read_weights(folder: Path, stem: str = WEIGHTS) -> dict[str, np.ndarray]:
    """Named tensors of a folder, in one file or in several with an index.

    Raises:
      DataError: no file of weights is there, or one is damaged or missing.
    """
    index = folder / f"{stem}.safetensors.index.json"
    files = [folder / f"{stem}{end}" for end in (".safetensors", ".fp16.safetensors")]
    files.append(folder / f"{stem}.bin")
    whole = [file for file in files if file.is_file()]
    if not whole and not index.is_file():
        raise DataError(
            f"{folder} has no {files[0].name}; put the weights there, next to {CONFIG}"
        )
    if whole:
        return read_state(whole[0])
    parts = _read_json(index).get("weight_map")
    if not isinstance(parts, dict) or not parts:
        raise DataError(f"{index} lists no files under 'weight_map'; fetch it again")
    state = {}
    for part in sorted(set(parts.values())):
        state |= read_state(folder / part)
    return state


def write_weights(
    folder: Path, state: Mapping[str, np.ndarray], stem: str = WEIGHTS
) -> None:
    """Write named tensors as one file, whole or not at all.

    Raises:
      RunError: the folder cannot be written or the disk is full.
    """
    from safetensors.numpy import save_file

    path = folder / f"{stem}.safetensors"
    temporary = temporary_name(path)
    try:
        # diffusers asks for this note before it trusts a file.
        save_file(dict(state), temporary, metadata={"format": "pt"})
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist; give the folder of a network that diffusers or "
            "anojax saved"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no JSON object; fetch it again")
    return found
