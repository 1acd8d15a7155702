"""What a run calls anomalous is anomalous, in the pixels that are written.

Over the registry: on surfaces where a copy changes nothing, and at a severity that
rounding takes back.
"""

from pathlib import Path

import numpy as np
import pytest
from compiling import quick
from subjects import small

from anojax import registry
from anojax.data.pipeline import synthesize
from anojax.data.plan import Loaded, Plan
from anojax.types import Bank, Controls

SIDE, IMAGES = 48, 6


def surface(kind, number):
    rng = np.random.default_rng(number)
    if kind == "flat":
        return np.full((SIDE, SIDE, 3), 180, np.uint8)
    if kind == "white":
        noisy = 255 + rng.normal(0, 0.6, (SIDE, SIDE, 3))
    else:
        y, x = np.mgrid[:SIDE, :SIDE]
        noisy = (120 + 60 * np.sin(x / 5) * np.cos(y / 7))[..., None]
        noisy = noisy + rng.normal(0, 8, (SIDE, SIDE, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def made(name, kind, severity):
    textures = np.random.default_rng(5).integers(0, 256, (3, SIDE, SIDE, 3))

    def bank(need, channels):
        normal = np.stack([surface(kind, i) for i in range(IMAGES)])
        return Bank(textures.astype(np.uint8) if need == "texture" else normal)

    synth = small(name)
    takes = "severity" in synth.card.controls
    images = 2 if synth.learns else IMAGES
    plan = Plan(
        methods=(synth,),
        images=tuple(Path(f"{i}.png") for i in range(images)),
        seed=4,
        load=lambda i: Loaded(surface(kind, i)),
        bank=bank,
        controls=Controls(severity=severity if takes else None),
    )
    with quick():
        return plan, list(synthesize(plan, plan.jobs(), batch_size=images))


IMAGED = [n for n in registry.names() if registry.get(n).card.level != "feature"]


@pytest.mark.parametrize("name", IMAGED)
def test_a_mask_marks_what_changed_in_the_file(name):
    card = registry.get(name).card
    for kind, severity in (("flat", 1.0), ("white", 1.0), ("waves", 0.02)):
        plan, results = made(name, kind, severity)
        assert len(results) == plan.total
        for one in results:
            if one.reason is not None:
                assert "gray levels" in one.reason
                continue
            final = plan.final(one)
            differs = (final.image != final.normal).any(-1, keepdims=True)
            inside = final.mask > 0
            assert (differs & inside).any(), "labeled anomalous, and nothing changed"
            if card.mask == "changed":
                np.testing.assert_array_equal(inside, differs)
            elif card.level == "image":
                assert not (differs & ~inside).any()
