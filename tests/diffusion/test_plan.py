"""Settings of samplers: what fits together, and where steps lie."""

import dataclasses

import numpy as np
import pytest

from anojax.diffusion.plan import KINDS, Sampler, rows
from anojax.diffusion.schedules import Schedule
from anojax.errors import SettingError

LINEAR = Schedule()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(kind="plms"), "choose one of"),
        (dict(kind="ddpm", eta=1.0), "others 0"),
        (dict(eta=1.5), "ddim takes 0 to 1"),
        (dict(clip=(1.0, -1.0)), "give \\(low, high\\)"),
        (dict(kind="euler", rederive_epsilon=False), "only ddim has it"),
        (dict(kind="heun", final="sigma_min"), "must be zero"),
        (dict(spacing="given"), "give both"),
        (dict(spacing="given", steps=2, timesteps=(1, 2)), "smaller than"),
        (dict(spacing="given", steps=3, timesteps=(2, 1)), "give 3"),
    ],
)
def test_settings_that_do_not_fit(kwargs, message):
    with pytest.raises(SettingError, match=message):
        Sampler(**kwargs)


def test_equal_samplers_are_one():
    a = Sampler("ddpm", 20, "ddim", clip=(-1.0, 1.0))
    assert a == dataclasses.replace(a) and hash(a) == hash(dataclasses.replace(a))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_finite_and_end_clean(kind):
    """Also with cosine noise, of which 1 - ᾱ and ᾱ both come close to 0."""
    sampler = Sampler(kind, 1000 if kind != "dpmpp_2m" else 999, "linspace")
    plan = rows(Schedule("cosine"), sampler)
    terms = plan.pop("terms")
    for values in (*plan.values(), *terms.values()):
        assert np.isfinite(values).all() and len(values) == len(plan["t"])
    # The last step removes what noise is left: x_0 = (x - sigma epsilon) / alpha.
    last = {name: values[-1] for name, values in terms.items()}
    alpha, sigma = plan["alpha"][-1], plan["sigma"][-1]
    if kind in ("euler", "heun"):
        np.testing.assert_allclose(last["x"], 1 / alpha, rtol=1e-6)
        np.testing.assert_allclose(last["epsilon"], -sigma / alpha, rtol=1e-6)
    else:
        assert last.pop("x0") == 1 and not any(last.values())


def test_index_below_counts_the_steps_at_or_above():
    sampler = Sampler("ddim", 4)
    assert sampler.grid(LINEAR) == (750, 500, 250, 0)
    found = [sampler.index_below(LINEAR, t) for t in (0, 1, 500, 501, 751)]
    assert found == [4, 3, 2, 1, 0]
