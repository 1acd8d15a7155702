"""What a method needs is drawn for each example: several kinds at once, by its key."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dots import CARD

import anojax
from anojax import batching
from anojax.core import Card, Synthesizer
from anojax.data.pipeline import synthesize
from anojax.data.plan import Loaded, Plan
from anojax.data.supply import bank_for
from anojax.errors import MissingInput, SettingError, UnsupportedInput
from anojax.ops.blend import local_synthesis
from anojax.types import Bank, Exemplar

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 100, (6, 4, 4, 1), np.uint8)
NORMAL = RNG.integers(0, 256, (5, 4, 4, 1), np.uint8)
DEFECTS = Exemplar(
    RNG.integers(0, 256, (7, 4, 4, 1), np.uint8),
    RNG.integers(0, 2, (7, 4, 4, 1), np.uint8),
)
LABELS = np.array([1, 1, 1, 2, 2, 3, 3], np.int32)
PROMPTS = ("scratch", "dent", "scratch")


@dataclass(frozen=True)
class Prompted(Synthesizer):
    """Pastes an exemplar over another normal image, darkened by its prompt; `encoded`
    counts how often text is encoded."""

    card: ClassVar[Card] = Card(
        **CARD | {"level": "image", "family": "local"},
        needs=("normal", "exemplar", "label", "text"),
    )
    encoded: ClassVar[list] = []

    def encode_text(self, params, prompts):
        self.encoded.append(prompts)
        lengths = jnp.asarray([len(p) for p in prompts], jnp.float32)
        return jnp.broadcast_to(lengths[:, None, None], (len(prompts), 2, 3))

    def synthesize(self, params, key, inputs):
        factor = 1 / inputs.text[0, 0]
        pasted = factor * inputs.exemplar.image * inputs.exemplar.mask
        out = local_synthesis(
            inputs,
            inputs.source * (1 - inputs.exemplar.mask) + pasted,
            jnp.ones((4, 4, 1)),
            severity="done",
        )
        defect = inputs.exemplar
        aux = {"image": defect.image, "mask": defect.mask}
        aux |= {"text": inputs.text, "source": inputs.source}
        return out.replace(label=inputs.label, aux=aux)


BANK = Bank(
    NORMAL,
    exemplars=DEFECTS,
    labels=LABELS,
    texts=jnp.asarray(RNG.normal(size=(3, 2, 3)), jnp.float32),
)


def run(bank=BANK, ids=range(40), devices=1, **more):
    ids = np.asarray(list(ids))
    make = anojax.batch(Prompted(), bank=bank, devices=jax.devices()[:devices])
    inputs = anojax.Inputs(image=IMAGES[ids % 6], **more)
    return jax.tree.map(np.asarray, make({}, 3, ids, inputs))


@pytest.fixture(scope="module")
def whole():
    return run()


def rows(found, every):
    """Which row of a bank each example has."""
    same = [[np.allclose(a, b, atol=1e-6) for b in every] for a in found]
    assert np.all(np.sum(same, 1) == 1)
    return np.argmax(same, 1)


def test_each_example_draws_of_every_kind(whole):
    scale = np.float32(1 / 255)
    sources = rows(whole.aux["source"], NORMAL * scale)
    defects = rows(whole.aux["image"], DEFECTS.image * scale)
    texts = rows(whole.aux["text"], BANK.texts)
    assert (set(sources), set(texts)) == (set(range(5)), set(range(3)))
    assert set(defects) == set(range(7))
    np.testing.assert_array_equal(whole.label, LABELS[defects])
    np.testing.assert_array_equal(whole.aux["mask"], DEFECTS.mask[defects])
    assert len(set(zip(sources % 3, defects % 3, texts, strict=True))) > 15


def test_more_in_the_bank_leaves_the_other_draws(whole):
    """The source is the one that a bank of normal images alone gives."""
    key = batching.method_key(3, "test_inputs")
    for example in range(5):
        own = batching.stream(batching.example_key(key, example, 0), "bank")
        index = jax.random.randint(own, (), 0, 5)
        expected = NORMAL[index] * np.float32(1 / 255)
        np.testing.assert_array_equal(whole.aux["source"][example], expected)


def test_draws_do_not_depend_on_batch_or_devices(whole):
    for other, ids in ((run(devices=8), slice(None)), (run(ids=[5, 2, 7]), [5, 2, 7])):
        expected = jax.tree.map(lambda x: x[ids], whole)  # noqa: B023
        jax.tree.map(np.testing.assert_array_equal, other, expected)


def test_a_label_draws_among_its_own_exemplars():
    labels = np.resize(np.int32([2, 3]), 40)
    out = run(label=labels)
    found = rows(out.aux["image"], DEFECTS.image * np.float32(1 / 255))
    np.testing.assert_array_equal(LABELS[found], labels)
    np.testing.assert_array_equal(out.label, labels)
    assert set(found) == {3, 4, 5, 6}


def test_what_is_given_is_not_drawn():
    given = Exemplar(np.full((40, 4, 4, 1), 51, np.uint8), np.ones((40, 4, 4, 1)))
    text = np.full((40, 2, 3), 2.0, np.float32)
    out = run(exemplar=given, text=text, label=np.ones(40, np.int32))
    np.testing.assert_allclose(out.aux["image"], 0.2, atol=1e-6)
    np.testing.assert_array_equal(out.aux["text"], text)


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("images", "another normal image as `source`"),
        ("exemplars", "a real defect with its mask as `exemplar`"),
        ("labels", "a class as `label`"),
        ("texts", "an encoded prompt as `text`"),
    ],
)
def test_a_bank_that_lacks_something(gone, words):
    with pytest.raises(MissingInput, match=words):
        run(BANK.replace(**{gone: None}))


def plan(prompts=PROMPTS, synth=None):
    def bank(need, channels):
        assert channels == 1
        if need == "normal":
            return Bank(NORMAL)
        return Bank(exemplars=DEFECTS, labels=LABELS)

    return Plan(
        methods=(synth or Prompted(),),
        images=tuple(Path(f"{i}.png") for i in range(6)),
        seed=3,
        load=lambda i: Loaded(IMAGES[i]),
        bank=bank,
        prompts=prompts,
        keep_empty=True,
        mask_rule=None,
    )


def test_the_pipeline_supplies_all_and_encodes_every_prompt_once():
    Prompted.encoded.clear()
    asked = plan()
    made = list(synthesize(asked, asked.jobs(), batch_size=2))
    assert len(made) == 6 and all(one.reason is None for one in made)
    assert Prompted.encoded == [("scratch", "dent")]


def test_prompts_that_are_missing_or_of_no_use():
    asked = plan(prompts=())
    with pytest.raises(MissingInput, match="needs a prompt; give at least one"):
        list(synthesize(asked, asked.jobs(), batch_size=2))
    asked = plan(synth=anojax.get("cutpaste")())
    with pytest.raises(UnsupportedInput, match="cutpaste takes no prompts"):
        list(synthesize(asked, asked.jobs(), batch_size=2))


def test_two_kinds_of_source():
    with pytest.raises(SettingError, match="both would be its source"):
        bank_for(("texture", "normal"), lambda need, channels: Bank(NORMAL), 1)


# Where parameters lie.


@dataclass(frozen=True)
class Scaled(Synthesizer):
    card: ClassVar[Card] = Card(**CARD)

    def init(self, key, inputs):
        return {"a": jnp.full((4, 4, 1), 0.5), "b": {"c": jnp.ones(())}}

    def synthesize(self, params, key, inputs):
        return local_synthesis(
            inputs, params["a"] * params["b"]["c"], jnp.ones((4, 4, 1))
        )


def test_parameters_are_put_on_the_devices_once(monkeypatch):
    make = anojax.batch(Scaled(), devices=jax.devices()[:4])
    host = {"a": np.full((4, 4, 1), 0.5, np.float32), "b": {"c": np.float32(1)}}
    placed, inputs = make.place(host), anojax.Inputs(image=IMAGES)
    first = make(placed, 3, range(6), inputs)
    moved, put = [], jax.device_put

    def counted(x, *where):
        moved.extend(leaf for leaf in jax.tree.leaves(x))
        return put(x, *where)

    monkeypatch.setattr(batching.jax, "device_put", counted)
    again = make(placed, 3, range(6), inputs)
    np.testing.assert_array_equal(first.image, again.image)
    shapes = sorted(np.shape(leaf) for leaf in moved)
    assert shapes == [(8,), (8,), (8, 4, 4, 1)]  # ids, draws and images, nothing else
    assert make.place(placed)["a"] is placed["a"]
    np.testing.assert_array_equal(make(host, 3, range(6), inputs).image, first.image)
