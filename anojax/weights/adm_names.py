"""Checkpoints of OpenAI's guided diffusion (ADM) under the names of diffusers.

RealNet's and Defect-Gen's networks descend from that code and share its names.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from einops import rearrange

from anojax.nn.diffusion_classifier import UNetClassifier
from anojax.nn.diffusion_unet import UNet2D, UNet2DConfig
from anojax.types import PyTree
from anojax.weights.convert import diffusers_name, to_flax
from anojax.weights.diffusers_folder import shapes
from anojax.weights.load import read_state

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ATTENTION = {"norm": "group_norm", "qkv": "qkv", "proj_out": "to_out.0"}


def load_adm(
    path: Path | str,
    network: UNet2D | UNetClassifier,
    *,
    legacy_order: bool = True,
) -> PyTree:
    """Variables of a network from a file of guided diffusion.

    The file does not say what it holds: give a network with its configuration, say of
    `adm_config`. A classifier needs its `sample_size`.

    Raises:
      DataError: the file is missing or damaged, or does not fit the network.
    """
    state = from_adm(read_state(path), network.config, legacy_order=legacy_order)
    return to_flax(state, shapes(network), name=diffusers_name, source=str(path))


def from_adm(
    state: Mapping[str, np.ndarray], config: UNet2DConfig, *, legacy_order: bool = True
) -> dict[str, np.ndarray]:
    """The tensors of a U-Net or classifier under the names of diffusers.

    Queries, keys and values are one tensor in the file. `legacy_order` says that its
    channels are sorted by head first, as in all released networks; otherwise by query,
    key and value first (``use_new_attention_order``). Names that are not known stay as
    they are.
    """
    known, found = dict(_modules(config)), {}
    for name, value in state.items():
        module, _, leaf = name.rpartition(".")
        new = known.get(module)
        if new is None or name in known:
            found[known.get(name, name)] = value
            continue
        if value.ndim == 3:  # ADM has convolutions of width one for linear layers
            value = value[:, :, 0]
        if new.endswith(".qkv"):
            for part, piece in zip(
                ("to_q", "to_k", "to_v"),
                _split(value, config.attention_head_dim, legacy_order),
                strict=True,
            ):
                found[f"{new.removesuffix('qkv')}{part}.{leaf}"] = piece
        else:
            found[f"{new}.{leaf}"] = value
    return found


def _split(qkv: np.ndarray, head_dim: int | None, legacy: bool) -> Iterator[np.ndarray]:
    """Queries, keys and values, each with its heads one after the other."""
    channels = qkv.shape[0] // 3
    heads = channels // (head_dim or channels)
    order = "(heads part d) ..." if legacy else "(part heads d) ..."
    return iter(rearrange(qkv, f"{order} -> part (heads d) ...", part=3, heads=heads))


def _modules(config: UNet2DConfig) -> Iterator[tuple[str, str]]:
    """Pairs of the names of a module with parameters, there and here."""
    yield "time_embed.0", "time_embedding.linear_1"
    yield "time_embed.2", "time_embedding.linear_2"
    yield "label_emb", "class_embedding"
    yield "input_blocks.0.0", "conv_in"
    last, count = len(config.block_out_channels) - 1, 1
    for level, kind in enumerate(config.down_block_types):
        at = f"down_blocks.{level}"
        for i in range(config.layers_per_block):
            yield from _level(f"input_blocks.{count}", at, i, kind)
            count += 1
        if level < last:
            there = f"input_blocks.{count}.0"
            yield from _resampler(there, f"{at}.downsamplers.0", kind, config)
            count += 1
    if config.mid_block_type is not None:
        yield from _inside("middle_block.0", "mid_block.resnets.0", _RESNET)
        if config.add_attention:
            yield from _inside("middle_block.1", "mid_block.attentions.0", _ATTENTION)
        second = f"middle_block.{1 + config.add_attention}"
        yield from _inside(second, "mid_block.resnets.1", _RESNET)
    count = 0
    for level, kind in enumerate(config.up_block_types):
        at = f"up_blocks.{level}"
        for i in range(config.layers_per_block + 1):
            yield from _level(f"output_blocks.{count}", at, i, kind)
            if i == config.layers_per_block and level < last:
                there = f"output_blocks.{count}.{1 + kind.startswith('Attn')}"
                yield from _resampler(there, f"{at}.upsamplers.0", kind, config)
            count += 1
    yield "out.0", "conv_norm_out"
    yield "out.2", "conv_out"
    for name in ("positional_embedding", "qkv_proj", "c_proj"):  # of the classifier
        yield f"out.2.{name}", f"pool.{name}"


def _level(there: str, at: str, i: int, kind: str) -> Iterator[tuple[str, str]]:
    yield from _inside(f"{there}.0", f"{at}.resnets.{i}", _RESNET)
    if kind.startswith("Attn"):
        yield from _inside(f"{there}.1", f"{at}.attentions.{i}", _ATTENTION)


def _resampler(
    there: str, here: str, kind: str, config: UNet2DConfig
) -> Iterator[tuple[str, str]]:
    if config.resamples_by(kind) == "resnet":
        yield from _inside(there, here, _RESNET)
    else:
        yield f"{there}.{'op' if 'Down' in kind else 'conv'}", f"{here}.conv"


def _inside(
    there: str, here: str, names: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    for old, new in names.items():
        yield f"{there}.{old}", f"{here}.{new}"
