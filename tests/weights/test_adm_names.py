"""Guided diffusion's names and order, against its networks written out with them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from anojax.errors import AnojaxError, DataError, SettingError
from anojax.nn.diffusion_classifier import UNetClassifier
from anojax.nn.diffusion_unet import UNet2D, adm_config
from anojax.weights.adm_names import from_adm, load_adm
from anojax.weights.diffusers_folder import shapes

WIDTHS, RESNETS, HEAD = (8, 16, 8), 2, 4
CONFIG = adm_config(
    width=8,
    multipliers=(1, 2, 1),
    attention_at=(2,),
    norm_num_groups=4,
    attn_norm_num_groups=4,
    attention_head_dim=HEAD,
    num_class_embeds=3,
)


class Adm:
    """ADM's forward pass; parameters are made when they are first requested."""

    def __init__(self, torch, legacy, by_resnet):
        self.torch, self.f = torch, torch.nn.functional
        self.state, self.draw = {}, np.random.default_rng(0)
        self.legacy, self.by_resnet = legacy, by_resnet

    def get(self, name, *shape, offset=0.0):
        if name not in self.state:
            size = np.prod(shape[1:]) if len(shape) > 1 else 10
            values = offset + self.draw.normal(size=shape) / np.sqrt(size)
            self.state[name] = values.astype(np.float32)
        return self.torch.from_numpy(self.state[name])

    def affine(self, name, *shape, offset=0.0):
        weight = self.get(f"{name}.weight", *shape, offset=offset)
        return weight, self.get(f"{name}.bias", shape[0])

    def norm(self, name, x):
        weight, bias = self.affine(name, x.shape[1], offset=1.0)
        return self.f.group_norm(x, 4, weight, bias, 1e-5)

    def conv(self, name, x, out, kernel=3, stride=1):
        weight, bias = self.affine(name, out, x.shape[1], kernel, kernel)
        return self.f.conv2d(x, weight, bias, stride, kernel // 2)

    def linear(self, name, x, out):
        return self.f.linear(x, *self.affine(name, out, x.shape[1]))

    def resnet(self, name, x, emb, out, change=lambda x: x):
        silu = self.f.silu
        y = change(silu(self.norm(f"{name}.in_layers.0", x)))
        x, y = change(x), self.conv(f"{name}.in_layers.2", y, out)
        emb = self.linear(f"{name}.emb_layers.1", silu(emb), 2 * out)
        scale, shift = emb[:, :, None, None].chunk(2, 1)
        y = self.norm(f"{name}.out_layers.0", y) * (1 + scale) + shift
        y = self.conv(f"{name}.out_layers.3", silu(y), out)
        if x.shape[1] != out:
            x = self.conv(f"{name}.skip_connection", x, out, kernel=1)
        return x + y

    def attention(self, name, x):
        b, c, h, w = x.shape
        weight, bias = self.affine(f"{name}.qkv", 3 * c, c, 1)
        y = self.norm(f"{name}.norm", x).reshape(b, c, h * w)
        y = self.attend(self.f.conv1d(y, weight, bias), self.legacy)
        weight, bias = self.affine(f"{name}.proj_out", c, c, 1)
        return x + self.f.conv1d(y, weight, bias).reshape(x.shape)

    def attend(self, qkv, legacy):
        b, c3, n = qkv.shape
        heads = c3 // 3 // HEAD
        if legacy:
            q, k, v = qkv.reshape(b * heads, 3 * HEAD, n).split(HEAD, 1)
        else:
            q, k, v = (y.reshape(b * heads, HEAD, n) for y in qkv.chunk(3, 1))
        weights = (q.transpose(1, 2) @ k / HEAD**0.5).softmax(-1)
        return (v @ weights.transpose(1, 2)).reshape(b, c3 // 3, n)

    def embedding(self, t, labels=None):
        angles = t[:, None] * self.torch.exp(-np.log(1e4) * self.torch.arange(4) / 4)
        waves = self.torch.cat([angles.cos(), angles.sin()], 1)
        emb = self.f.silu(self.linear("time_embed.0", waves, 32))
        emb = self.linear("time_embed.2", emb, 32)
        return (
            emb if labels is None else emb + self.get("label_emb.weight", 3, 32)[labels]
        )

    def half(self, x):
        return self.f.avg_pool2d(x, 2)

    def twice(self, x):
        return self.f.interpolate(x, scale_factor=2.0)

    def encode(self, x, emb):
        x = self.conv("input_blocks.0.0", x, WIDTHS[0])
        skips, k = [x], 1
        for level, width in enumerate(WIDTHS):
            for _ in range(RESNETS):
                x = self.resnet(f"input_blocks.{k}.0", x, emb, width)
                if level == 1:
                    x = self.attention(f"input_blocks.{k}.1", x)
                skips.append(x)
                k += 1
            if level < 2:
                if self.by_resnet:
                    name = f"input_blocks.{k}.0"
                    x = self.resnet(name, x, emb, width, self.half)
                else:
                    x = self.conv(f"input_blocks.{k}.0.op", x, width, stride=2)
                skips.append(x)
                k += 1
        x = self.resnet("middle_block.0", x, emb, WIDTHS[-1])
        x = self.attention("middle_block.1", x)
        return self.resnet("middle_block.2", x, emb, WIDTHS[-1]), skips

    def unet(self, x, t, labels):
        emb, k = self.embedding(t, labels), 0
        x, skips = self.encode(x, emb)
        for level, width in reversed(list(enumerate(WIDTHS))):
            for i in range(RESNETS + 1):
                x = self.torch.cat([x, skips.pop()], 1)
                x = self.resnet(f"output_blocks.{k}.0", x, emb, width)
                if level == 1:
                    x = self.attention(f"output_blocks.{k}.1", x)
                if level and i == RESNETS:
                    name = f"output_blocks.{k}.{1 + (level == 1)}"
                    if self.by_resnet:
                        x = self.resnet(name, x, emb, width, self.twice)
                    else:
                        x = self.conv(f"{name}.conv", self.twice(x), width)
                k += 1
        return self.conv("out.2", self.f.silu(self.norm("out.0", x)), 6)

    def classifier(self, x, t, _):
        x, _ = self.encode(x, self.embedding(t))
        x = self.f.silu(self.norm("out.0", x)).flatten(2)
        x = self.torch.cat([x.mean(2, keepdim=True), x], 2)
        c, n = x.shape[1:]
        x = x + self.get("out.2.positional_embedding", c, n)
        weight, bias = self.affine("out.2.qkv_proj", 3 * c, c, 1)
        x = self.attend(self.f.conv1d(x, weight, bias), legacy=False)
        weight, bias = self.affine("out.2.c_proj", 5, c, 1)
        return self.f.conv1d(x, weight, bias)[:, :, 0]


CASES = {
    "unet": ("unet", True, True),
    "new_order": ("unet", False, True),
    "plain_resampling": ("unet", True, False),
    "classifier": ("classifier", True, True),
}


@pytest.mark.parametrize("name", CASES)
def test_parity_with_adm(name, tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch", exc_type=ImportError)
    part, legacy, by_resnet = CASES[name]
    draw = np.random.default_rng(1)
    x = draw.normal(size=(2, 16, 16, 3)).astype(np.float32)
    t, labels = np.array([5, 800], np.float32), np.array([2, 0])
    adm = Adm(torch, legacy, by_resnet)
    with torch.no_grad():
        sample_image = torch.from_numpy(x).permute(0, 3, 1, 2)
        run = getattr(adm, part)
        expected = run(
            sample_image, torch.from_numpy(t), torch.from_numpy(labels)
        ).numpy()
    by = "resnet" if by_resnet else "conv"
    config = dataclasses.replace(CONFIG, downsample_type=by, upsample_type=by)
    if not by_resnet:
        config = dataclasses.replace(
            config,
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )
    inputs = (jnp.array(x), jnp.array(t))
    if part == "unet":
        network = UNet2D(config=config)
        inputs += (jnp.array(labels.astype(np.int32)),)
        expected = expected.transpose(0, 2, 3, 1)
    else:
        config = dataclasses.replace(config, num_class_embeds=None, sample_size=16)
        network = UNetClassifier(config=config, classes=5)
    save_file(adm.state, tmp_path / "adm.safetensors")
    variables = load_adm(tmp_path / "adm.safetensors", network, legacy_order=legacy)
    assert np.abs(expected).max() > 0.1
    with jax.default_matmul_precision("highest"):
        found = jax.jit(network.apply)(variables, *inputs)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
    if name == "new_order":
        other = load_adm(tmp_path / "adm.safetensors", network)
        changed = jax.jit(network.apply)(other, *inputs)
        assert np.abs(changed - expected).max() > 1e-3


def test_order_of_queries_keys_and_values():
    name = "middle_block.1.qkv.bias"
    qkv = np.arange(24, dtype=np.float32)  # two heads of four channels
    legacy, new = (
        from_adm({name: qkv}, CONFIG, legacy_order=order) for order in (True, False)
    )
    at = "mid_block.attentions.0"
    np.testing.assert_array_equal(new[f"{at}.to_k.bias"], np.arange(8, 16))
    expected = [4, 5, 6, 7, 16, 17, 18, 19]
    np.testing.assert_array_equal(legacy[f"{at}.to_k.bias"], expected)
    assert set(new) == {f"{at}.to_{part}.bias" for part in "qkv"}


def test_what_does_not_fit_is_listed(tmp_path):
    state = {"label_emb.weight": np.zeros((4, 32), np.float32)}
    save_file(state | {"time_embed.1.bias": np.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(DataError) as error:
        load_adm(tmp_path / "a.safetensors", UNet2D(config=CONFIG))
    for part in (
        "missing conv_in.bias",
        "left over time_embed.1.bias",
        "class_embedding.weight (4, 32) (needs (3, 32))",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("classes,count", [(1000, 54_096_360), (15, 53_591_055)])
def test_classifier_of_the_paper(classes, count):
    config = adm_config(width=128, sample_size=256)
    found = shapes(UNetClassifier(config=config, classes=classes))
    assert sum(leaf.size for leaf in jax.tree.leaves(found)) == count


def test_sizes_the_classifier_cannot_take(key):
    config = dataclasses.replace(CONFIG, num_class_embeds=None)
    with pytest.raises(SettingError, match="sample_size is None; set it"):
        shapes(UNetClassifier(config=config, classes=2))
    config = dataclasses.replace(config, sample_size=(16, 8))
    network = UNetClassifier(config=config, classes=2)
    with pytest.raises(AnojaxError, match="images of 16 x 8 px, not 8 x 16"):
        network.init(key, jnp.zeros((1, 8, 16, 3)), jnp.zeros(1))
    assert shapes(network)["params"]["pool"]["positional_embedding"].shape == (8, 9)
