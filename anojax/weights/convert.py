"""Between the names and layouts of PyTorch and those of the networks here."""

import re
from collections.abc import Callable, Iterable, Mapping

import jax
import numpy as np
from einops import rearrange

from anojax.errors import DataError
from anojax.types import PyTree

PREFIXES = ("module.", "model.", "backbone.", "encoder.")
"""What wrappers put in front of every name."""

LISTED = 20
"""How many names of each kind an error lists."""

Name = Callable[[tuple[str, ...]], str]

_LEAVES = {
    "kernel": "weight",
    "embedding": "weight",
    "weight": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def resnet_name(path: tuple[str, ...]) -> str:
    """The name in torchvision and timm of a leaf of `ResNet`.

    ``params/layer1_0/downsample_conv/kernel`` is ``layer1.0.downsample.0.weight``.
    """
    _, *modules, leaf = path
    modules = [
        {"downsample_conv": "downsample.0", "downsample_bn": "downsample.1"}.get(m, m)
        for m in modules
    ]
    modules = [m.replace("_", ".") if m.startswith("layer") else m for m in modules]
    return ".".join([*modules, _LEAVES[leaf]])


def diffusers_name(path: tuple[str, ...]) -> str:
    """The name in diffusers of a leaf of the networks that follow it.

    ``params/down_blocks_0/resnets_1/conv1/kernel`` is
    ``down_blocks.0.resnets.1.conv1.weight``; ``linear_1`` is called so there, too.
    """
    _, *modules, leaf = path
    modules = [re.sub(r"(?<!^linear)_(\d+)$", r".\1", m) for m in modules]
    return ".".join([*modules, _LEAVES.get(leaf, leaf)])


def modern_attention(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Attention of files from before diffusers 0.18, under its present names."""
    old = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
    pattern = re.compile(rf"(?<=\.)({'|'.join(old)})(?=\.(weight|bias)$)")
    return {pattern.sub(lambda m: old[m[1]], k): v for k, v in state.items()}


def to_torch(variables: PyTree, *, name: Name) -> dict[str, np.ndarray]:
    """The state dict of variables, float32: what `to_flax` turns back into them."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    state = {}
    for path, value in leaves:
        path = tuple(str(step.key) for step in path)
        value = _torch_layout(np.asarray(value, np.float32), path[-1])
        state[name(path)] = np.ascontiguousarray(value)
    return state


def to_flax(
    state: Mapping[str, np.ndarray],
    like: PyTree,
    *,
    name: Name,
    unused: Iterable[str] = (),
    source: str = "the checkpoint",
) -> PyTree:
    """Fill variables shaped as `like` (say of `jax.eval_shape`) from a state dict.

    Prefixes of wrappers and ``num_batches_tracked`` are dropped. `name` gives the key
    of every leaf; keys that begin with one of `unused` may be left over. Convolutions
    turn from OIHW into HWIO and linear layers from (out, in) into (in, out); those
    that are stored as 1 x 1 convolutions lose the 1 x 1. Embeddings stay.

    Raises:
      DataError: keys are missing or left over, or shapes differ; all are listed.
    """
    state = strip_prefixes(state)
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    paths = [tuple(str(step.key) for step in path) for path, _ in leaves]
    keys = [name(path) for path in paths]
    missing = [key for key in keys if key not in state]
    extra = [k for k in state if k not in set(keys) and not k.startswith(tuple(unused))]
    wrong, filled = [], []
    for key, path, (_, leaf) in zip(keys, paths, leaves, strict=True):
        if key not in state:
            continue
        value = np.asarray(state[key])
        if leaf.ndim == 2 and value.shape[2:] == (1, 1):
            value = value[:, :, 0, 0]
        flipped = _flax_layout(value, path[-1])
        if flipped.shape != leaf.shape:
            needed = _torch_layout(np.broadcast_to(0, leaf.shape), path[-1]).shape
            wrong.append(f"{key} {value.shape} (needs {needed})")
        filled.append(np.ascontiguousarray(flipped, leaf.dtype))
    problems = [
        f"{what} {_listed(names)}"
        for what, names in (
            ("missing", missing),
            ("left over", extra),
            ("of another shape", wrong),
        )
        if names
    ]
    if problems:
        raise DataError(
            f"{source} does not fit the network: {'; '.join(problems)}: "
            "check that it belongs to this architecture"
        )
    return jax.tree_util.tree_unflatten(structure, filled)


def strip_prefixes(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names without `PREFIXES` that all share, and without step counters."""
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    shared = True
    while shared and state:
        shared = [p for p in PREFIXES if all(k.startswith(p) for k in state)]
        for prefix in shared:
            state = {k.removeprefix(prefix): v for k, v in state.items()}
    return state


def _flax_layout(value: np.ndarray, leaf: str) -> np.ndarray:
    if leaf != "kernel":
        return value
    layout = "o i h w -> h w i o" if value.ndim == 4 else "o i -> i o"
    return rearrange(value, layout)


def _torch_layout(value: np.ndarray, leaf: str) -> np.ndarray:
    if leaf != "kernel":
        return value
    layout = "h w i o -> o i h w" if value.ndim == 4 else "i o -> o i"
    return rearrange(value, layout)


def _listed(names: list[str]) -> str:
    more = len(names) - LISTED
    tail = f" and {more} more" if more > 0 else ""
    return ", ".join(names[:LISTED]) + tail
