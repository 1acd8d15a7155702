"""Folders of diffusers: the same output there and here, both ways, for every option."""

import json
import os

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from anojax.errors import DataError, RunError, SettingError
from anojax.nn.diffusion_config import CHOICES, DOWN_BLOCKS, UP_BLOCKS, UNet2DConfig
from anojax.nn.diffusion_unet import UNet2D, adm_config
from anojax.weights.convert import diffusers_name, modern_attention, to_torch
from anojax.weights.diffusers_folder import (
    CONFIG,
    WEIGHTS,
    load_unet,
    read_weights,
    save_unet,
    shapes,
)

OPTIONS = {
    "adm": {
        "block_out_channels": [8, 16, 8],
        "down_block_types": [
            "ResnetDownsampleBlock2D",
            "AttnDownBlock2D",
            "ResnetDownsampleBlock2D",
        ],
        "up_block_types": [
            "ResnetUpsampleBlock2D",
            "AttnUpBlock2D",
            "ResnetUpsampleBlock2D",
        ],
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "resnet_time_scale_shift": "scale_shift",
        "attn_norm_num_groups": 2,
        "num_class_embeds": 5,
        "out_channels": 6,
    },
    "ddpm_of_2020": {
        "down_block_types": ["AttnDownBlock2D"] * 2,
        "up_block_types": ["AttnUpBlock2D"] * 2,
        "attention_head_dim": None,
        "freq_shift": 1,
        "flip_sin_to_cos": False,
        "downsample_padding": 0,
        "norm_eps": 1e-3,
        "act_fn": "gelu",
    },
    "fourier": {
        "down_block_types": ["AttnDownBlock2D", "ResnetDownsampleBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
        "time_embedding_type": "fourier",
        "center_input_sample": True,
        "mid_block_scale_factor": 1.4142,
        "act_fn": "mish",
    },
    "learned_time": {
        "time_embedding_type": "learned",
        "num_train_timesteps": 1000,
        "time_embedding_dim": 20,
        "add_attention": False,
        "in_channels": 1,
        "act_fn": "relu",
    },
    "no_middle_timestep_classes": {
        "mid_block_type": None,
        "class_embed_type": "timestep",
        "layers_per_block": 2,
        "act_fn": "swish",
    },
    "identity_classes_unnormalized_middle": {
        "class_embed_type": "identity",
        "resnet_time_scale_shift": "scale_shift",
        "sample_size": [16, 24],
    },
}
TINY = {
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}


def random_state(config):
    """Numbers at the scale of a trained network: the output depends on all of them."""
    draw = np.random.default_rng(0)

    def leaf(path, leaf):
        kind, values = path[-1].key, draw.normal(size=leaf.shape)
        if kind == "kernel":
            values /= np.sqrt(np.prod(leaf.shape[:-1]))
        elif kind == "scale":
            values = np.exp(0.3 * values)
        elif kind == "bias":
            values *= 0.3
        return values.astype(np.float32)

    return jax.tree_util.tree_map_with_path(leaf, shapes(UNet2D(config=config)))


def some_inputs(config):
    draw = np.random.default_rng(1)
    x = draw.normal(size=(2, 8, 12, config.in_channels)).astype(np.float32)
    if config.time_embedding_type == "fourier":
        t = np.array([0.3, 7.5], np.float32)
    else:
        t = np.array([3, 977], np.int32)
    labels = None
    if config.class_embed_type == "identity":
        size = (2, config.embedding_dim)
        labels = draw.normal(size=size).astype(np.float32)
    elif config.class_embed_type == "timestep":
        labels = np.array([400, 2], np.int32)
    elif config.num_class_embeds:
        labels = np.array([4, 0], np.int32)
    return x, t, labels


def ours(config):
    """Our network, compiled."""
    run = jax.jit(UNet2D(config=config).apply)

    def call(variables, *inputs):
        with jax.default_matmul_precision("highest"):
            return run(variables, *inputs)

    return call


def theirs(torch, model, x, t, labels):
    with torch.no_grad():
        labels = None if labels is None else torch.from_numpy(labels)
        x = torch.from_numpy(x).permute(0, 3, 1, 2)
        return model(x, torch.from_numpy(t), labels).sample.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("name", OPTIONS)
def test_parity_with_diffusers_both_ways(name, tmp_path):
    """Their random network read here, and ours read there."""
    torch = pytest.importorskip("torch", reason="needs PyTorch", exc_type=ImportError)
    from diffusers import UNet2DModel

    settings = TINY | OPTIONS[name]
    config = UNet2DConfig.from_dict(settings)
    inputs, run, random = some_inputs(config), ours(config), random_state(config)
    save_unet(tmp_path / "ours", config, random)
    model = UNet2DModel.from_pretrained(tmp_path / "ours").eval()
    expected = theirs(torch, model, *inputs)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(run(random, *inputs), expected, atol=1e-4, rtol=1e-4)

    torch.manual_seed(0)
    fresh = UNet2DModel(**settings).eval()
    fresh.save_pretrained(tmp_path / "theirs")
    again, variables = load_unet(tmp_path / "theirs")
    assert again == config
    expected = theirs(torch, fresh, *inputs)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(run(variables, *inputs), expected, atol=1e-4, rtol=1e-4)


def test_every_choice_of_the_configuration_is_compared():
    """Adding a supported value without a comparison fails here."""
    compared = [TINY | settings for settings in OPTIONS.values()]
    for name, choices in CHOICES.items():
        default = getattr(UNet2DConfig(), name)
        assert {settings.get(name, default) for settings in compared} == set(choices)
    for name, kinds in (
        ("down_block_types", DOWN_BLOCKS),
        ("up_block_types", UP_BLOCKS),
    ):
        assert {kind for settings in compared for kind in settings[name]} == set(kinds)


SMALL = adm_config(
    width=8,
    multipliers=(1, 2),
    attention_at=(2,),
    layers_per_block=1,
    norm_num_groups=4,
    attn_norm_num_groups=4,
    attention_head_dim=4,
)
NO_SKIP = adm_config(
    width=8,
    multipliers=(1, 2),
    attention_at=(),
    middle=False,
    norm_num_groups=4,
    attn_norm_num_groups=4,
    attention_head_dim=4,
)


@pytest.mark.parametrize("config", [SMALL, NO_SKIP], ids=["whole", "without_skip"])
def test_round_trip_is_exact(config, tmp_path):
    variables = random_state(config)
    save_unet(tmp_path / "new" / "folder", config, variables)
    again, found = load_unet(str(tmp_path / "new" / "folder"))
    assert again == config
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    assert sorted(os.listdir(tmp_path / "new" / "folder")) == [
        CONFIG,
        f"{WEIGHTS}.safetensors",
    ]
    written = json.loads((tmp_path / "new" / "folder" / CONFIG).read_text())
    theirs = written["_class_name"] == "UNet2DModel"
    assert theirs == config.first_skip == ("first_skip" not in written)


def test_names():
    for path, name in (
        (
            "down_blocks_0/resnets_11/conv1/kernel",
            "down_blocks.0.resnets.11.conv1.weight",
        ),
        ("time_embedding/linear_2/bias", "time_embedding.linear_2.bias"),
        (
            "mid_block/attentions_0/to_out_0/kernel",
            "mid_block.attentions.0.to_out.0.weight",
        ),
        ("class_embedding/embedding", "class_embedding.weight"),
        ("time_proj/weight", "time_proj.weight"),
        ("conv_norm_out/scale", "conv_norm_out.weight"),
    ):
        assert diffusers_name(("params", *path.split("/"))) == name


def sharded(folder, state, count=3):
    names, parts = sorted(state), {}
    for i in range(count):
        file = f"{WEIGHTS}-{i + 1:05}-of-{count:05}.safetensors"
        save_file({name: state[name] for name in names[i::count]}, folder / file)
        parts |= dict.fromkeys(names[i::count], file)
    index = {"metadata": {}, "weight_map": parts}
    (folder / f"{WEIGHTS}.safetensors.index.json").write_text(json.dumps(index))


def test_other_forms_of_the_same_weights(tmp_path):
    """Several files, half precision, a pipeline's folder, names from 2022."""
    variables = random_state(SMALL)
    state = to_torch(variables, name=diffusers_name)
    folder = tmp_path / "pipeline" / "unet"
    save_unet(folder, SMALL, variables)
    (folder / f"{WEIGHTS}.safetensors").unlink()

    def check(**tolerance):
        config, found = load_unet(tmp_path / "pipeline")
        assert config == SMALL
        assert {x.dtype for x in jax.tree.leaves(found)} == {np.dtype("float32")}
        for a, b in zip(*map(jax.tree.leaves, (found, variables)), strict=True):
            np.testing.assert_allclose(a, b, **tolerance)

    sharded(folder, state)
    check(rtol=0)
    lost = folder / f"{WEIGHTS}-00002-of-00003.safetensors"
    lost.unlink()
    with pytest.raises(DataError, match=f"{lost.name} does not exist"):
        load_unet(folder)
    half = {name: value.astype(np.float16) for name, value in state.items()}
    save_file(half, folder / f"{WEIGHTS}.fp16.safetensors")
    check(rtol=1e-3, atol=1e-6)
    modern = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, value in state.items():
        for new, former in modern.items():
            name = name.replace(f".{new}.", f".{former}.")
        if value.ndim == 2 and "attentions" in name:
            value = value[:, :, None, None]
        old[name] = value
    assert sum("proj_attn" in name for name in old) == 2 * 4
    assert set(modern_attention(old)) == set(state)
    save_file(old, folder / f"{WEIGHTS}.safetensors")
    check(rtol=0)


def test_names_of_the_hub_come_from_the_cache(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="first run: hf download someone/tiny"):
        load_unet("someone/tiny")
    repository = tmp_path / "models--someone--tiny"
    save_unet(repository / "snapshots" / "a1b2", SMALL, random_state(SMALL))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a1b2")
    assert load_unet("someone/tiny")[0] == SMALL


def test_folders_that_cannot_be_used(tmp_path):
    gone = tmp_path / "gone"
    with pytest.raises(DataError, match="gone does not exist; give a folder with"):
        load_unet(gone)
    folder = tmp_path / "unet"
    folder.mkdir()
    with pytest.raises(
        DataError, match=r"config\.json does not exist; give the folder"
    ):
        load_unet(folder)
    variables = random_state(SMALL)
    for config, error, said in (
        ("{", DataError, r"config\.json cannot be read"),
        ("[]", DataError, "holds no JSON object"),
        (
            '{"_class_name": "VQModel"}',
            DataError,
            "holds a VQModel; give the folder of",
        ),
        ('{"act_fn": "elu"}', SettingError, r"config\.json: act_fn is 'elu'"),
        (json.dumps(SMALL.to_dict()), DataError, "has no diffusion_pytorch_model"),
    ):
        (folder / CONFIG).write_text(config)
        with pytest.raises(error, match=said):
            load_unet(folder)
    state = to_torch(variables, name=diffusers_name)
    state["conv_out.weigth"] = state.pop("conv_out.weight")
    state["conv_in.bias"] = state["conv_in.bias"][:5]
    save_file(state, folder / f"{WEIGHTS}.safetensors")
    with pytest.raises(DataError) as error:
        load_unet(folder)
    for part in (
        f"{folder} does not fit the network: missing conv_out.weight; ",
        "left over conv_out.weigth; ",
        "of another shape conv_in.bias (5,) (needs (8,))",
    ):
        assert part in str(error.value)
    (folder / f"{WEIGHTS}.safetensors").unlink()
    (folder / f"{WEIGHTS}.safetensors.index.json").write_text("{}")
    with pytest.raises(DataError, match="lists no files under 'weight_map'"):
        read_weights(folder)


def test_saving_what_does_not_belong_or_fit(tmp_path, monkeypatch):
    with pytest.raises(
        DataError, match="what is to be saved does not fit .* left over"
    ):
        save_unet(tmp_path, NO_SKIP, random_state(SMALL))
    assert not os.listdir(tmp_path)
    save_unet(tmp_path, SMALL, random_state(SMALL))
    before = (tmp_path / f"{WEIGHTS}.safetensors").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match=f"cannot write .*{WEIGHTS}.*No space left"):
        save_unet(tmp_path, SMALL, random_state(SMALL))
    assert (tmp_path / f"{WEIGHTS}.safetensors").read_bytes() == before
