"""The denoising U-Net: published sizes, what it can see, precision, mistakes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.errors import AnojaxError, SettingError
from anojax.nn.diffusion_blocks import UNetBlock
from anojax.nn.diffusion_config import UNet2DConfig, receptive_field_px
from anojax.nn.diffusion_unet import UNet2D, adm_config

TINY = adm_config(
    width=8,
    multipliers=(1, 2),
    attention_at=(2,),
    layers_per_block=1,
    norm_num_groups=4,
    attn_norm_num_groups=4,
    attention_head_dim=4,
    num_class_embeds=3,
)


def inputs():
    """Images, time steps and classes."""
    x = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype(np.float32)
    return jnp.array(x), jnp.array([10, 900]), jnp.array([0, 2])


@pytest.fixture
def weights(filled):
    """Random variables of `TINY`."""
    x, t, labels = inputs()
    return filled(UNet2D(config=TINY), x, timesteps=t, class_labels=labels)


def defect_gen(channels, small=False, **settings):
    if not small:
        settings = {"width": 128, "attention_head_dim": 16} | settings
    else:
        plain = {"attention_at": (), "middle": False, "scale_shift": False}
        settings = {"width": 192, "multipliers": (1, 2, 4)} | plain | settings
    shape = {"channels": channels, "out_channels": channels}
    return adm_config(resample_by_resnet=False, **shape, **settings)


PUBLISHED = {
    "adm": (adm_config(), 552_814_086),
    "adm_15_classes": (adm_config(num_class_embeds=15), 552_829_446),
    "defect_gen_2": (defect_gen(6), 125_378_566),
    "defect_gen_5": (defect_gen(9), 125_385_481),
    "defect_gen_6": (defect_gen(10), 125_387_786),
    "defect_gen_small_5": (defect_gen(9, small=True), 98_223_753),
    "defect_gen_small_2": (defect_gen(6, small=True), 98_213_382),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_of_the_papers(name):
    config, count = PUBLISHED[name]
    x = jax.ShapeDtypeStruct((1, 32, 64, config.in_channels), jnp.float32)
    t = jax.ShapeDtypeStruct((1,), jnp.int32)
    network, labels = UNet2D(config=config), t if config.num_class_embeds else None
    y, variables = jax.eval_shape(
        network.init_with_output, jax.random.key(0), x, t, labels
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == count
    assert y.shape == (1, 32, 64, config.out_channels)


def test_names_are_those_of_diffusers(weights):
    found = weights["params"]
    assert set(found["down_blocks_1"]) == {"resnets_0", "attentions_0"}
    assert set(found["down_blocks_0"]) == {"resnets_0", "downsamplers_0"}
    assert set(found["up_blocks_0"]) == {
        *(f"{kind}_{i}" for kind in ("resnets", "attentions") for i in range(2)),
        "upsamplers_0",
    }
    assert found["up_blocks_1"]["resnets_1"]["conv_shortcut"]["kernel"].shape == (
        1,
        1,
        16,
        8,
    )
    assert found["class_embedding"]["embedding"].shape == (3, 32)


SHORT = dataclasses.replace(
    TINY,
    block_out_channels=(8,),
    down_block_types=("AttnDownBlock2D",),
    up_block_types=("AttnUpBlock2D",),
    mid_block_type=None,
)


def test_fresh_networks_return_zero():
    key = jax.random.key(0, impl="rbg")  # compiles fastest
    network = UNet2D(config=SHORT)
    found, variables = jax.jit(network.init_with_output)(key, *inputs())
    assert found.shape == (2, 8, 12, 6) and not np.any(found)
    block = variables["params"]["down_blocks_0"]["resnets_0"]
    assert np.ptp(block["conv1"]["kernel"]) > 0 and not np.any(block["conv2"]["kernel"])


def test_every_input_counts(weights):
    network = UNet2D(config=TINY)
    x, t, labels = inputs()
    run = jax.jit(network.apply)
    base = run(weights, x, t, labels)
    assert np.abs(run(weights, x, t + 1, labels) - base).max() > 1e-4
    assert np.abs(run(weights, x, t, labels[::-1]) - base).max() > 1e-3
    other = run(weights, x.at[1].set(0), t.at[1].set(0), labels.at[1].set(1))
    np.testing.assert_allclose(other[0], base[0], atol=1e-5)


def test_rematerialised_gradients_are_the_same(filled):
    network = UNet2D(config=SHORT)
    x, t, labels = inputs()
    weights = filled(network, x, timesteps=t, class_labels=labels)

    def gradients(network):
        def loss(weights):
            return jnp.mean(jnp.square(network.apply(weights, x, t, labels)))

        return jax.grad(loss)

    plain, remat = gradients(network), gradients(network.clone(remat=True))
    assert "prevent_cse" in str(jax.make_jaxpr(remat)(weights))
    assert "prevent_cse" not in str(jax.make_jaxpr(plain)(weights))
    for a, b in zip(
        *(jax.tree.leaves(jax.jit(f)(weights)) for f in (plain, remat)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_bfloat16(weights, key):
    network = UNet2D(config=TINY)
    x, t, labels = inputs()
    exact = jax.jit(network.apply)(weights, x, t, labels)
    low = network.clone(dtype=jnp.bfloat16)
    found = jax.jit(low.apply)(weights, x, t, labels)
    assert found.dtype == jnp.float32
    assert 1e-6 < np.abs(found - exact).mean() < 0.05 * np.abs(exact).mean()
    text = str(jax.make_jaxpr(low.apply)(weights, x, t, labels))
    convolutions = [line for line in text.splitlines() if "conv_general" in line]
    assert convolutions and all(":bf16[" in line for line in convolutions)
    made = jax.eval_shape(low.init, key, x, t, labels)
    assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {np.dtype("float32")}


def test_dropout_only_in_training(weights, key):
    network = UNet2D(config=dataclasses.replace(TINY, dropout=0.5))
    x, t, labels = inputs()

    @jax.jit
    def trained(key):
        return network.apply(weights, x, t, labels, train=True, rngs={"dropout": key})

    first, again, other = (trained(jax.random.key(i)) for i in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    still, bare = (
        str(jax.make_jaxpr(net.apply)(weights, x, t, labels))
        for net in (network, UNet2D(config=TINY))
    )
    assert still == bare


FIELDS = {
    "paper": ({"multipliers": (1, 2, 4)}, 157),
    "two_levels": ({"multipliers": (1, 2)}, 69),
    "four_levels": ({"multipliers": (1, 2, 4, 8)}, 337),
    "padding_0": ({"multipliers": (1, 2, 2), "downsample_padding": 0}, None),
    "resnets": (
        {"multipliers": (1, 1), "resample_by_resnet": True, "layers_per_block": 1},
        None,
    ),
    "middle": (
        {"multipliers": (1, 1), "middle": True, "add_attention": False},
        None,
    ),
}


@pytest.mark.parametrize("name", FIELDS)
def test_receptive_field(name, monkeypatch):
    """Positive weights and no normalization: gradients reach exactly that far."""
    settings, published = FIELDS[name]
    plain = {
        "attention_at": (),
        "middle": False,
        "scale_shift": False,
        "out_channels": 1,
    }
    tiny = {"width": 2, "norm_num_groups": 1, "attn_norm_num_groups": 1, "channels": 1}
    base = {"resample_by_resnet": False, "attention_head_dim": 2}
    config = adm_config(**(plain | tiny | base | settings))
    size = receptive_field_px(config)
    assert published in (None, size)
    if size > 200:
        return  # the formula is the same, the check would be slow
    monkeypatch.setattr(UNetBlock, "norm", lambda self, name: lambda x: x)
    network, multiple = UNet2D(config=config), config.side_multiple
    center = (size // multiple + 1) * multiple
    x = jnp.full((1, multiple, 2 * center, 1), 0.5)
    t = jnp.ones((1,))
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, t)
    weights = jax.tree.map(
        lambda leaf: np.full(leaf.shape, 0.3 / leaf.size**0.5, np.float32), shapes
    )

    @jax.jit
    @jax.vmap
    def reach(column):
        def out(x):
            y = network.apply(weights, x, t)
            return jax.lax.dynamic_slice_in_dim(y, column, 1, 2).sum()

        return jax.grad(out)(x).sum((0, 1, 3))

    found = np.asarray(reach(center + jnp.arange(multiple))) != 0
    assert not found[:, [0, -1]].any()
    widths = [np.flatnonzero(row)[[0, -1]] @ (-1, 1) + 1 for row in found]
    assert max(widths) == size


def test_attention_sees_the_whole_image():
    assert receptive_field_px(TINY) is None
    assert (
        receptive_field_px(
            dataclasses.replace(TINY, down_block_types=("DownBlock2D",) * 2)
        )
        is None
    )


def test_first_skip_halves_the_first_way_up(filled):
    config = defect_gen(
        3,
        small=True,
        width=8,
        multipliers=(1, 2),
        norm_num_groups=4,
        attn_norm_num_groups=4,
    )
    x, t, _ = inputs()
    for first_skip, channels in ((False, 16), (True, 32)):
        network = UNet2D(config=dataclasses.replace(config, first_skip=first_skip))
        params = filled(network, x, timesteps=t)["params"]
        assert (
            params["up_blocks_0"]["resnets_0"]["conv1"]["kernel"].shape[2] == channels
        )
        assert "mid_block" not in params
        found = jax.eval_shape(network.apply, {"params": params}, x, t)
        assert found.shape == x.shape


@pytest.mark.parametrize(
    "change,said",
    [
        (
            {"down_block_types": ("SkipDownBlock2D",) * 2},
            "down_block_types is 'SkipDownBlock2D', which is not built here; choose one of 'DownBlock2D', 'AttnDownBlock2D', 'ResnetDownsampleBlock2D'",
        ),
        (
            {"mid_block_type": "UNetMidBlock2DCrossAttn"},
            "choose one of 'UNetMidBlock2D', None",
        ),
        ({"downsample_padding": 2}, "downsample_padding is 2"),
        ({"resnet_time_scale_shift": "ada_group"}, "'ada_group'.*'scale_shift'"),
        ({"class_embed_type": "projection"}, "'timestep', 'identity'"),
        ({"act_fn": "tanh"}, "'tanh'.*'mish'"),
        (
            {"up_block_types": ("UpBlock2D",) * 3},
            "up_block_types names 3 blocks but block_out_channels has 2 widths",
        ),
        (
            {"norm_num_groups": 3},
            "norm_num_groups is 3, which does not divide the width 8",
        ),
        ({"norm_num_groups": 0}, "norm_num_groups is 0, which does not divide"),
        ({"attn_norm_num_groups": 5}, "attn_norm_num_groups is 5.*width 16"),
        ({"attention_head_dim": 17}, "attention_head_dim is 17.*16 channels"),
        ({"time_embedding_type": "learned"}, "needs num_train_timesteps"),
        ({"first_skip": False}, "set mid_block_type to None"),
    ],
)
def test_settings_that_are_not_built(change, said):
    with pytest.raises(SettingError, match=said):
        dataclasses.replace(TINY, **change)


def test_configuration_as_a_dictionary():
    found = TINY.to_dict()
    assert "first_skip" not in found
    assert UNet2DConfig.from_dict(found | {"_class_name": "UNet2DModel"}) == TINY
    small = defect_gen(6, small=True)
    assert UNet2DConfig.from_dict(small.to_dict()) == small
    assert hash(small) != hash(TINY)
    with pytest.raises(
        SettingError, match="no setting 'droput'; did you mean 'dropout'"
    ):
        UNet2DConfig.from_dict({"droput": 0.1})


def test_calls_that_do_not_fit(key):
    x, t, labels = inputs()
    for sample_image, classes, said in (
        (x[:, :7], labels, "7 x 12 px.*multiples of 2"),
        (x[..., :1], labels, "takes 3 channels, not 1"),
        (x, None, "class_labels is None"),
    ):
        with pytest.raises(AnojaxError, match=said):
            UNet2D(config=TINY).init(key, sample_image, t, classes)
    bare = UNet2D(config=dataclasses.replace(TINY, num_class_embeds=None))
    with pytest.raises(AnojaxError, match="to a network without classes"):
        bare.init(key, x, t, labels)
