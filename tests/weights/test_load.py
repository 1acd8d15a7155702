"""Checkpoints: parity with PyTorch, names, and what is said when they do not fit."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from anojax.errors import DataError, UnknownName
from anojax.nn.resnet import ARCHITECTURES, ResNet
from anojax.weights import load
from anojax.weights.convert import resnet_name, strip_prefixes, to_flax

BLOCKS = (1, 2, 1, 1)
VARIANTS = {
    "basic": (ResNet(blocks=BLOCKS, width=8, classes=5), (BLOCKS, False, 1, 8, 5)),
    "bottleneck": (
        ResNet(blocks=BLOCKS, width=8, classes=5, bottleneck=True, widening=2),
        (BLOCKS, True, 2, 8, 5),
    ),
}
TAPS = ("layer1", "layer2", "layer3", "layer4", "logits")


def torch_resnet(torch, state, x, blocks, bottleneck):
    """The network as PyTorch computes it, straight from the state dict."""
    f = torch.nn.functional

    def conv(name, x, stride=1):
        weight = state[f"{name}.weight"]
        return f.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(name, x):
        names = ("running_mean", "running_var", "weight", "bias")
        return f.batch_norm(x, *(state[f"{name}.{n}"] for n in names))

    x = torch.relu(norm("bn1", conv("conv1", x, 2)))
    x = f.max_pool2d(x, 3, 2, 1)
    found = {}
    for s, count in enumerate(blocks):
        for i in range(count):
            at, stride = f"layer{s + 1}.{i}", 2 if s and not i else 1
            # The stride sits in the 3 x 3 convolution.
            strides = (1, stride, 1) if bottleneck else (stride, 1)
            y = x
            for j, step in enumerate(strides, start=1):
                y = norm(f"{at}.bn{j}", conv(f"{at}.conv{j}", y, step))
                y = torch.relu(y) if j < len(strides) else y
            if f"{at}.downsample.0.weight" in state:
                x = conv(f"{at}.downsample.0", x, stride)
                x = norm(f"{at}.downsample.1", x)
            x = torch.relu(x + y)
        found[f"layer{s + 1}"] = x.permute(0, 2, 3, 1)
    found["logits"] = f.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])
    return found


def shaped(network, side=32):
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return jax.eval_shape(
        lambda k, x: network.init(k, x, train=False), jax.random.key(0), x
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_pytorch(variant, random_state):
    torch = pytest.importorskip("torch", reason="needs PyTorch", exc_type=ImportError)
    network, layout = VARIANTS[variant]
    network = network.clone(taps=TAPS)
    state = random_state(*layout)
    variables = to_flax(state, shaped(network), name=resnet_name)
    x = np.random.default_rng(1).normal(size=(2, 48, 65, 3)).astype(np.float32)
    with torch.no_grad(), jax.default_matmul_precision("highest"):
        tensors = {k: torch.from_numpy(v.copy()) for k, v in state.items()}
        theirs = torch_resnet(
            torch, tensors, torch.from_numpy(x).permute(0, 3, 1, 2), *layout[:2]
        )
        ours = jax.jit(lambda v, x: network.apply(v, x, train=False))(variables, x)
    for tap in TAPS:
        expected = theirs[tap].numpy()
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(ours[tap], expected, atol=1e-4, err_msg=tap)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_published_names_and_shapes(name, torch_shapes):
    """Every leaf of the paper's network has its entry, and none is left over."""
    settings = ARCHITECTURES[name]
    expected = torch_shapes(
        settings["blocks"],
        settings.get("bottleneck", False),
        settings.get("widening", 1),
    )
    expected = {k: v for k, v in expected.items() if not k.endswith("tracked")}
    network = ResNet(taps=("logits",), **settings)
    leaves, _ = jax.tree_util.tree_flatten_with_path(shaped(network))
    found = {}
    for path, leaf in leaves:
        h, w = leaf.shape[:2] if leaf.ndim == 4 else ((), ())
        key = resnet_name(tuple(step.key for step in path))
        found[key] = (*leaf.shape[:1:-1], h, w) if leaf.ndim == 4 else leaf.shape[::-1]
    assert found == expected


def test_prefixes_and_counters_are_dropped():
    def names(*keys):
        return [*strip_prefixes({key: np.zeros(1) for key in keys})]

    assert names("module.backbone.a", "module.backbone.b.num_batches_tracked") == ["a"]
    assert names("model.a", "b") == ["model.a", "b"]


def test_what_does_not_fit_is_listed(random_state):
    network, layout = VARIANTS["basic"]
    like = shaped(network)
    state = random_state(*layout)
    fits = to_flax(state, like, name=resnet_name, unused=("fc.",))
    np.testing.assert_array_equal(
        fits["params"]["conv1"]["kernel"][2, 5, 1], state["conv1.weight"][:, 1, 2, 5]
    )
    del state["bn1.bias"]
    state["layer9.weight"] = state["bn1.weight"]
    state["conv1.weight"] = state["conv1.weight"][:, :, 1:, 1:]
    with pytest.raises(DataError) as error:
        to_flax(state, like, name=resnet_name, unused=("fc.",), source="here.pth")
    message = str(error.value)
    assert message.startswith("here.pth does not fit the network: missing bn1.bias; ")
    assert "left over layer9.weight; " in message
    assert "conv1.weight (8, 3, 6, 6) (needs (8, 3, 7, 7))" in message
    del state["conv1.weight"]
    few = {k: state[k] for k in ("conv1.bias", "bn1.weight") if k in state}
    count = len(jax.tree.leaves(like)) - len(few)
    with pytest.raises(DataError, match=f"missing .* and {count - 20} more"):
        to_flax(few, like, name=resnet_name)


def test_safetensors_from_the_folder(tmp_path, monkeypatch, random_state):
    monkeypatch.setenv("ANOJAX_WEIGHTS", str(tmp_path))
    with pytest.raises(DataError) as error:
        load.pretrained("resnet18")
    for part in (
        "the weights of resnet18 are missing",
        "resnet18-f37072fd.pth",
        "resnet18.tv_in1k.safetensors",
        str(tmp_path),
        "license: BSD-3-Clause",
    ):
        assert part in str(error.value)
    state = {f"model.{k}": v for k, v in random_state((2, 2, 2, 2), False).items()}
    save_file(state, tmp_path / "resnet18.tv_in1k.safetensors")
    backbone = load.pretrained("resnet18", taps=("layer1",))
    assert backbone.origin == "resnet18 with weights from resnet18.tv_in1k.safetensors"
    assert set(backbone.variables["params"]) == {"conv1", "bn1", "layer1_0", "layer1_1"}
    x = jnp.ones((1, 32, 32, 3))
    features = jax.jit(backbone.__call__)(x)["layer1"]
    assert features.shape == (1, 8, 8, 64) and np.ptp(features) > 0
    with pytest.raises(DataError, match=r"does not fit .*left over layer1.2.conv1"):
        save_file(
            state | {"model.layer1.2.conv1.weight": state["model.conv1.weight"]},
            tmp_path / "resnet18.tv_in1k.safetensors",
        )
        load.pretrained("resnet18", taps=("layer1",))


def test_other_weights_warn(tmp_path, random_state):
    file = tmp_path / "resnet18.a1_in1k.safetensors"
    save_file(random_state((2, 2, 2, 2), False), file)
    with pytest.warns(UserWarning, match="other weights than the papers used"):
        load.pretrained("resnet18", path=file, taps=("layer1",))


def test_random_fallback_says_so(key):
    backbone = load.untrained("resnet18", key, width=4, taps=("layer1",))
    assert "not pretrained" in backbone.origin
    assert backbone.variables["params"]["conv1"]["kernel"].shape == (7, 7, 3, 4)
    again = load.untrained("resnet18", key, width=4, taps=("layer1",))
    jax.tree.map(np.testing.assert_array_equal, backbone.variables, again.variables)


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'resnet18'"):
        load.pretrained("resnet81")
    with pytest.raises(DataError, match=r"gone\.safetensors does not exist"):
        load.pretrained("resnet18", path=tmp_path / "gone.safetensors")
    for name, said in (
        ("half.safetensors", "not a whole .safetensors file"),
        ("half.pth", "cannot be read as a PyTorch checkpoint"),
        ("half.npz", r"ends in '\.npz'; need"),
    ):
        (tmp_path / name).write_bytes(b"\x08\0\0\0\0\0\0\0{nonsen")
        with pytest.raises(DataError, match=said):
            load.read_state(tmp_path / name)


def test_published_files_are_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("ANOJAX_WEIGHTS", str(tmp_path))
    file = tmp_path / load.CATALOG["resnet34"].file
    file.write_bytes(b"not it")
    start = hashlib.sha256(b"not it").hexdigest()[:8]
    said = f"damaged: its SHA-256 begins with {start}, expected b627a593"
    with pytest.raises(DataError, match=said):
        load.pretrained("resnet34")
