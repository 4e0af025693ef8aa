"""The configuration's ranges and round trips, and the presets against the numbers of their sources."""

import dataclasses
import json
from typing import Any

import pytest

from pixelq.agents import PRESETS, AgentConfig, InvalidConfig, preset

NAN, INFINITY = float("nan"), float("inf")
OUT_OF_RANGE: dict[str, tuple[Any, ...]] = {
    "gamma": (-0.01, 1.01, NAN, None, "0.99"),
    "n_step": (0, -1, 1.0, None),
    "batch_size": (0, 32.0, "32"),
    "replay_capacity": (0, 1e6),
    "learning_starts": (0, -5),
    "train_every": (0, 0.25),
    "target_update_every": (0, None),
    "learning_rate": (0, -1e-4, INFINITY, NAN, "1e-4", None),
    "optimizer": ("sgd", None),
    "adam_epsilon": (0, -1e-8, NAN),
    "rmsprop_decay": (-0.1, 1.1, None),
    "rmsprop_epsilon": (0, -1, INFINITY),
    "max_grad_norm": (0, -1.0, INFINITY, NAN, "10"),
    "loss": ("mse", ""),
    "epsilon_start": (-0.1, 1.1, NAN),
    "epsilon_end": (-0.1, 1.1, None),
    "epsilon_steps": (0, 1e6),
    "reward_clip": (0, -1.0, INFINITY, NAN, "1"),
    "double": (1, "false", None),
    "dueling": (0, "true", None),
    "noisy": (True, None),
    "head": ("quantile",),
    "prioritized": (True,),
    "priority_alpha": (-0.1, 1.1, "0.5"),
    "priority_beta": (-0.1, 1.1),
    "munchausen": (True,),
    "encoder": ("resnet", None),
    "hidden": (0, 512.0),
    "precision": ("float16", None),
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field in OUT_OF_RANGE for value in OUT_OF_RANGE[field]]
)
def test_values_out_of_range_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidConfig, match=rf"^{field} is .*; it must be ") as error:
        AgentConfig(**{field: value})
    assert str(error.value).startswith(f"{field} is {value!r}; it must be ")
    with pytest.raises(InvalidConfig, match=f"^{field} is "):
        dataclasses.replace(AgentConfig(), **{field: value})
    with pytest.raises(InvalidConfig, match=f"^{field} is "):
        AgentConfig.from_dict({field: value})


def test_every_field_is_checked() -> None:
    assert set(OUT_OF_RANGE) == {field.name for field in dataclasses.fields(AgentConfig)}


def test_ends_of_the_ranges_are_allowed() -> None:
    counts = ("n_step", "batch_size", "replay_capacity", "learning_starts", "train_every", "target_update_every")
    least = AgentConfig(**dict.fromkeys((*counts, "epsilon_steps", "hidden"), 1))  # type: ignore[arg-type]
    assert least.replay_capacity == 1
    for value in (0.0, 1.0, 0, 1):
        AgentConfig(gamma=value, epsilon_start=value, epsilon_end=value, rmsprop_decay=value)
        AgentConfig(priority_alpha=value, priority_beta=value)
    AgentConfig(max_grad_norm=1e-9, reward_clip=None)
    AgentConfig(batch_size=64, replay_capacity=64, learning_starts=65)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("epsilon_end", {"epsilon_start": 0.1, "epsilon_end": 0.2}),
        ("batch_size", {"batch_size": 101, "replay_capacity": 100, "learning_starts": 1}),
    ],
)
def test_combinations_that_make_no_sense_are_refused(field: str, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig, match=f"^{field} is .*; it must be at most (epsilon_start|replay_capacity)$"):
        AgentConfig(**values)


def test_configurations_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        AgentConfig().gamma = 0.5  # type: ignore[misc]


CHANGED = AgentConfig(max_grad_norm=10.0, reward_clip=None, double=True, dueling=True, encoder="impala", gamma=0.997)


@pytest.mark.parametrize("config", [AgentConfig(), CHANGED, *(make() for make in PRESETS.values())])
def test_round_trip_through_json(config: AgentConfig) -> None:
    values = config.to_dict()
    assert set(values) == {field.name for field in dataclasses.fields(config)}
    assert AgentConfig.from_dict(values) == config
    assert AgentConfig.from_dict(json.loads(json.dumps(values, allow_nan=False))) == config


def test_unknown_fields_are_refused_and_missing_ones_take_their_defaults() -> None:
    with pytest.raises(InvalidConfig, match="unknown field 'gama'"):
        AgentConfig.from_dict({"gama": 0.9})
    assert AgentConfig.from_dict({"gamma": 0.9}) == AgentConfig(gamma=0.9)


def test_the_contracts_field_names() -> None:
    names = (
        "gamma n_step batch_size replay_capacity learning_starts train_every target_update_every learning_rate "
        "adam_epsilon max_grad_norm epsilon_start epsilon_end epsilon_steps reward_clip double dueling noisy head "
        "prioritized priority_alpha priority_beta munchausen encoder"
    )
    assert set(names.split()) <= {field.name for field in dataclasses.fields(AgentConfig)}


PLAIN = {
    "n_step": 1,
    "double": False,
    "dueling": False,
    "noisy": False,
    "head": "scalar",
    "prioritized": False,
    "munchausen": False,
    "max_grad_norm": None,
    "hidden": 512,
    "precision": "float32",
}
NATURE = {  # Mnih et al. 2015, Extended Data Table 1 and Methods
    "batch_size": 32,
    "replay_capacity": 1_000_000,
    "target_update_every": 10_000,
    "gamma": 0.99,
    "train_every": 4,
    "optimizer": "rmsprop",
    "learning_rate": 0.00025,
    "rmsprop_decay": 0.95,  # gradient momentum and squared gradient momentum
    "rmsprop_epsilon": 0.01 / 1024,  # min squared gradient 0.01, of a sum over 32
    "epsilon_start": 1.0,
    "epsilon_end": 0.1,
    "epsilon_steps": 1_000_000,
    "learning_starts": 50_000,
    "reward_clip": 1.0,
    "loss": "huber",
    "encoder": "nature",
}
DOPAMINE = {  # Castro et al. 2018, the settings that stand beside the published curves
    "batch_size": 32,
    "replay_capacity": 1_000_000,
    "target_update_every": 8_000,
    "gamma": 0.99,
    "train_every": 4,
    "optimizer": "adam",
    "learning_rate": 6.25e-5,
    "adam_epsilon": 1.5e-4,
    "epsilon_start": 1.0,
    "epsilon_end": 0.01,
    "epsilon_steps": 250_000,
    "learning_starts": 20_000,
    "reward_clip": 1.0,
    "loss": "squared",
    "encoder": "dopamine",
}


@pytest.mark.parametrize(("name", "numbers"), [("nature", NATURE), ("dqn", DOPAMINE)])
def test_presets_have_the_numbers_of_their_sources(name: str, numbers: dict[str, Any]) -> None:
    values = preset(name).to_dict()
    expected = numbers | PLAIN
    assert {field: values[field] for field in expected} == expected
    without_effect = {"priority_alpha", "priority_beta"}
    without_effect |= {"adam_epsilon"} if numbers["optimizer"] == "rmsprop" else {"rmsprop_decay", "rmsprop_epsilon"}
    assert set(values) == set(expected) | without_effect


def test_every_preset_is_named_after_its_function_and_cites_what_it_is() -> None:
    assert {"nature", "dqn", "quick"} <= set(PRESETS)
    for name, make in PRESETS.items():
        assert make.__name__ == name
        assert make() == preset(name)
        assert make.__doc__


@pytest.mark.parametrize(("wrong", "near"), [("natur", "nature"), ("dqm", "dqn"), ("quik", "quick")])
def test_unknown_presets_suggest_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(InvalidConfig, match=f"^unknown preset '{wrong}'; did you mean '{near}'\\?$"):
        preset(wrong)


def test_unknown_presets_far_from_any_are_answered_with_all() -> None:
    with pytest.raises(InvalidConfig, match=r"^unknown preset 'zzzzzz'; there are .*nature.*dqn.*quick"):
        preset("zzzzzz")
