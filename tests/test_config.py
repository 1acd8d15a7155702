"""Configuration: dataclass and YAML, one check and one message."""

import dataclasses

import pytest

from anojax import config
from anojax.core import hp
from anojax.data.config import DataConfig
from anojax.errors import SettingError, UnknownName
from anojax.synthesis.config import SynthConfig, from_request, renamed_settings


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = hp(0.1, "a rate", low=0.0, high=1.0)
    steps: tuple[int, ...] = hp((1, 2), "steps")


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str = hp("x", "a name")
    inner: Inner = dataclasses.field(default_factory=Inner)


def test_only_differences_are_written():
    assert config.to_dict(SynthConfig(seed=3), differences=True) == {"seed": 3}


def test_yaml_round_trip(tmp_path):
    made = SynthConfig(DataConfig(size=(32, 48), gray=True), ("a", "b"), severity=0.5)
    (tmp_path / "c.yaml").write_text(config.to_yaml(config.to_dict(made)))
    assert config.load(SynthConfig, tmp_path / "c.yaml") == made


def test_dotted_overrides():
    made = config.override(Outer(), ["inner.rate=0.5", "inner.steps=3,4", "name=y"])
    assert made == Outer("y", Inner(0.5, (3, 4)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nmae": "y"}, "unknown key 'nmae'; did you mean 'name'"),
        ({"inner": {"rat": 1.0}}, "unknown key 'inner.rat'; did you mean 'inner.rate'"),
    ],
)
def test_unknown_keys_name_the_nearest(values, message):
    with pytest.raises(UnknownName, match=message):
        config.from_dict(Outer, values)


def test_ranges_hold():
    with pytest.raises(SettingError, match="at most 1"):
        config.from_dict(Outer, {"inner": {"rate": 2.0}})


def test_a_field_of_a_plain_value_is_refused():
    with pytest.raises(UnknownName, match="no fields of its own"):
        config.override(Outer(), ["name.first=1", "name=y", "name.second=2"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("-0.5", -0.5), ("1e-3", 0.001), ("word", "word"), ("none", None),
        ("True", True), ("1,2.5", (1, 2.5)), ("(1,2),(3,4)", ((1, 2), (3, 4))),
        ("a,b", ("a", "b")), ("[1, 2]", (1, 2)), ("'3'", "3"),
    ],
)  # fmt: skip
def test_values_from_the_command_line(text, value):
    parsed = config.parse_value(text)
    assert parsed == value and type(parsed) is type(value)


def test_fit_brings_equal_settings_together():
    assert type(config.fit(1, float)) is float
    assert config.fit(3, tuple[int, ...]) == (3,)
    assert config.fit((1, 2), tuple[float, float]) == (1.0, 2.0)
    assert config.fit(None, float | None) is None
    assert type(config.fit(1, float | None)) is float


def test_digest_and_compare():
    a, b = {"x": 1, "y": {"z": (1, 2)}}, {"y": {"z": [1, 2]}, "x": 1}
    assert config.digest(a) == config.digest(b)
    assert config.compare({"x": 1, "y": {"z": 1}}, {"x": 1, "y": {"z": 2}, "w": 3}) == [
        "y.z: 1 -> 2",
        "w: None -> 3",
    ]


@pytest.mark.parametrize("size", [8, (8, 8), (5000, 16), (16,), (16, 16, 16)])
def test_sizes_out_of_range(size):
    with pytest.raises(SettingError, match="size is"):
        config.from_dict(DataConfig, {"size": size})


def test_height_may_exceed_width():
    assert DataConfig(size=(320, 240)).shape == (320, 240)


def test_one_side_is_both():
    assert DataConfig(size=32) == DataConfig(size=(32, 32))


def test_flat_names_find_their_place():
    nested = config.nest(SynthConfig, {"seed": 1, "size": 32, "gray": True})
    assert nested == {"seed": 1, "data": {"size": 32, "gray": True}}
    with pytest.raises(UnknownName, match="'gary'; did you mean 'gray'"):
        config.nest(SynthConfig, {"gary": True})


def test_requests_of_the_first_version_had_no_data_block():
    old = {"input": "a", "size": [32, 48], "gray": True, "seed": 3, "area": 0.2}
    data = DataConfig("a", size=(32, 48), gray=True, bits=16, frames="first")
    assert from_request(old) == SynthConfig(data, seed=3, area=0.2)
    assert from_request(config.to_dict(from_request(old))) == from_request(old)


def test_data_for_training_is_not_for_synthesis():
    with pytest.raises(SettingError, match=r"data\.precomputed is for training"):
        SynthConfig(DataConfig(precomputed="run"))


def test_keys_of_the_data_may_stand_at_the_top_of_a_file():
    given = {"size": [64, 64], "data": {"gray": True}, "seed": 3, "input": "parts"}
    assert config.nest(SynthConfig, given) == {
        "data": {"size": [64, 64], "gray": True, "input": "parts"},
        "seed": 3,
    }
    with pytest.raises(UnknownName, match="'inptu'; did you mean 'input'"):
        config.nest(SynthConfig, {"inptu": "parts"})


def test_settings_of_version_0_1_0_have_todays_names():
    old = {"color_probability": 0.5, "colour": ["hue", "greyscale"]}
    found = renamed_settings("simad", old)
    assert found == {"color_probability": 0.5, "color": ["hue", "grayscale"]}
    assert renamed_settings("draem", old) == old
    assert renamed_settings("simad", {"colour": 3}) == {"colour": 3}
