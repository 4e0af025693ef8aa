"""The configuration's ranges and round trips, and the presets against the numbers of their sources."""

import copy
import dataclasses
import inspect
import json
import pickle
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from pixelq.agents import PRESETS, AgentConfig, InvalidConfig, Linear, preset
from pixelq.agents.config.agent_config import NEWER, OF_REPLAY, OF_ROLLOUTS, Group
from pixelq.agents.config.presets import ATARI_PRESETS, PRESET_NUM_ENVS, PRESET_PROTOCOLS, config_of, preset_of
from pixelq.envs import PROTOCOLS
from pixelq.scripts.flags.train import defaults_of

PAGE = Path(__file__).parents[2] / "docs" / "presets.md"
NAN, INFINITY = float("nan"), float("inf")
OUT_OF_RANGE: dict[str, tuple[Any, ...]] = {
    "gamma": (-0.01, 1.01, NAN, None, "0.99"),
    "n_step": (0, -1, 1.0, None),
    "batch_size": (0, 32.0, "32"),
    "replay_capacity": (0, 1e6),
    "learning_starts": (0, -5),
    "train_every": (0, 0.25),
    "gradient_steps": (0, 1.5, None),
    "target_update_every": (0, None),
    "learning_rate": (0, -1e-4, INFINITY, NAN, "1e-4", None),
    "learning_rate_end": (-1e-4, INFINITY, None),
    "learning_rate_steps": (0, 1e6, "1"),
    "weight_decay": (-0.1, NAN, None),
    "optimizer": ("sgd", None),
    "adam_epsilon": (0, -1e-8, NAN),
    "rmsprop_decay": (-0.1, 1.1, None),
    "rmsprop_epsilon": (0, -1, INFINITY),
    "max_grad_norm": (0, -1.0, INFINITY, NAN, "10"),
    "loss": ("mse", ""),
    "epsilon": (-0.1, 1.1, NAN, "0.1"),
    "epsilon_start": (-0.1, 1.1, NAN),
    "epsilon_end": (-0.1, 1.1, None),
    "epsilon_steps": (0, 1e6),
    "epsilon_off": (0, 1.0, "1"),
    "evaluation_epsilon": (-0.1, 1.1, NAN, "0.05"),
    "evaluation_noise": (1, None),
    "reward_clip": (0, -1.0, INFINITY, NAN, "1"),
    "double": (1, "false", None),
    "dueling": (0, "true", None),
    "noisy": (1, None),
    "noisy_sigma": (-0.1, NAN, None),
    "head": ("c51", None),
    "atoms": (1, 51.0),
    "v_min": (NAN, -INFINITY, None),
    "v_max": (NAN, INFINITY, "10"),
    "quantiles": (0, 200.0),
    "tau_samples": (0, None),
    "tau_samples_target": (0, 1.0),
    "tau_samples_policy": (0, -1),
    "cosines": (0, None),
    "kappa": (-1.0, INFINITY),
    "fraction_learning_rate": (0, None),
    "fraction_epsilon": (0, -1e-5, NAN, None),
    "fraction_entropy": (-0.1, NAN),
    "prioritized": (1, "true"),
    "priority_alpha": (-0.1, 1.1, "0.5"),
    "priority_beta": (-0.1, 1.1),
    "priority_beta_end": (-0.1, 1.1, None),
    "priority_beta_steps": (0, 1e6),
    "priority_epsilon": (-1e-9, INFINITY),
    "priority_uniform": (-0.1, 1.1),
    "clip_weighted": (1, None),
    "munchausen": (1, None),
    "target": ("soft", 3, True),
    "munchausen_alpha": (-0.1, 1.1),
    "munchausen_temperature": (0, -0.03, INFINITY),
    "munchausen_clip": (0.1, -INFINITY, NAN),
    "value_rescaling": (0, None),
    "reset_every": (0, 1.0),
    "reset_shrink": (-0.1, 1.1, None),
    "encoder": ("resnet", None),
    "encoder_width": (0, 1.0),
    "encoder_layers": ((0,), (64, 1.5), (True,), 64, "64"),
    "spectral_norm": (1, None),
    "adaptive_pool": (0, 6.0),
    "layer_norm": (0, "true"),
    "hidden": (-1, 512.0),
    "lstm": (0, 512.0),
    "lstm_last_action": (1, True),
    "lstm_last_reward": (0, True),
    "sequence_length": (0, 80.0),
    "sequence_period": (0, 81, None),
    "sequence_state": ("burn-in", None),
    "burn_in": (-1, 80, None),
    "priority_eta": (-0.1, 1.1),
    "frame_stack": (0, 17, 4.0),
    "frame_size": (0, 513, 84.0),
    "epsilon_ladder": (1, None),
    "precision": ("float16", None),
    "cuda_graph": (1, None),
    "compile_update": (1, None),
    "algorithm": ("ppo", None),
    "rollout_length": (0, 32.0, None),
    "minibatches": (0, 1.5),
    "epochs": (0, None, 1.5),
    "kept_rollouts": (-1, 1.0, None),
    "past_rollouts": (-1, 1.0, None, 1),
    "td_lambda": (-0.1, 1.1, NAN, None),
    "overlap": (1, None),
    "target_tau": (0, 1.1, NAN, "0.005"),
    "categorical_loss": ("cross-entropy", None),
    "hl_gauss_sigma": (0, -1.0, NAN, None),
    "channel_norm": (0, "true"),
    "contrast_norm": (0, "true"),
    "activation": ("tanh", None),
    "initialization": ("zeros", None),
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field in OUT_OF_RANGE for value in OUT_OF_RANGE[field]]
)
def test_values_out_of_range_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidConfig, match=rf"^{field} must be .*, got ") as error:
        AgentConfig(**{field: value})
    assert f", got {value!r};" in f"{error.value};"  # a hint may follow
    with pytest.raises(InvalidConfig, match=f"^{field} must be "):
        dataclasses.replace(AgentConfig(), **{field: value})
    with pytest.raises(InvalidConfig, match=f"^{field} must be "):
        AgentConfig.from_dict({field: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gamma": 1.5}, "gamma must be in [0, 1], got 1.5"),
        ({"gamma": True}, "gamma must be a number or a schedule, got True"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": 32.0}, "batch_size must be an integer, got 32.0"),
        ({"batch_size": 10**12 + 1}, "batch_size must be at most 1,000,000,000,000, got 1000000000001"),
        ({"batch_size": 10**5000}, "batch_size must be at most 1,000,000,000,000, got one of 16610 bits"),
        ({"gamma": 10**5000}, "gamma must be in [0, 1], got one of 16610 bits"),
        ({"atoms": 1}, "atoms must be at least 2, got 1"),
        ({"frame_stack": 17}, "frame_stack must be in [1, 16], got 17"),
        ({"learning_rate": 0}, "learning_rate must be greater than 0, got 0"),
        ({"learning_rate": NAN}, "learning_rate must be greater than 0, got nan"),
        ({"learning_rate": 1e39}, "learning_rate must be within ±1e+38, got 1e+39"),
        ({"v_max": NAN}, "v_max must be within ±1e+38, got nan"),
        ({"munchausen_clip": 0.1}, "munchausen_clip must be at most 0, got 0.1"),
        ({"max_grad_norm": -1.0}, "max_grad_norm must be greater than 0 or None, got -1.0"),
        ({"lstm": "512"}, "lstm must be an integer or None, got '512'"),
        ({"noisy": None}, "noisy must be True or False, got None"),
        ({"loss": "mse"}, "loss must be one of huber, squared, got 'mse'"),
        ({"loss": "squared", "head": "fqf"}, "loss must be huber unless the head is scalar, got 'squared'"),
    ],
)
def test_the_message_says_what_a_value_must_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig) as error:
        AgentConfig(**values)
    assert str(error.value) == message


def test_the_metadata_of_every_field() -> None:
    """A group from the list, a range for every count, and the range of a count in whole numbers."""
    hints = get_type_hints(AgentConfig)
    for field in dataclasses.fields(AgentConfig):
        assert set(field.metadata) == {"group", "unit", "least", "above", "most", "search"}, field.name
        assert field.metadata["group"] in get_args(Group), field.name
        if hints[field.name] in (int, int | None):
            assert type(field.metadata["least"]) is int, field.name
    groups = [field.metadata["group"] for field in dataclasses.fields(AgentConfig)]
    assert tuple(dict.fromkeys(groups)) == get_args(Group)


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
    with pytest.raises(InvalidConfig, match=f"^{field} must be at most (epsilon_start|replay_capacity), got "):
        AgentConfig(**values)


def test_configurations_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        AgentConfig().gamma = 0.5  # type: ignore[misc]


CHANGED = AgentConfig(max_grad_norm=10.0, reward_clip=None, double=True, dueling=True, encoder="impala", gamma=0.997)


@pytest.mark.parametrize("config", [AgentConfig(), CHANGED, *(make() for make in PRESETS.values())])
def test_round_trip_through_json(config: AgentConfig) -> None:
    values = config.to_dict()
    assert set(values) == {field.name for field in dataclasses.fields(config)} - (
        {name for name in NEWER if getattr(config, name) == getattr(AgentConfig(), name)}
    )
    assert AgentConfig.from_dict(values) == config
    assert AgentConfig.from_dict(json.loads(json.dumps(values, allow_nan=False))) == config


def test_layers_are_in_files_only_where_they_are_used() -> None:
    assert "encoder_layers" not in AgentConfig().to_dict()
    config = AgentConfig(encoder_layers=[64, 32])  # type: ignore[arg-type]
    assert config.encoder_layers == (64, 32)
    assert config.to_dict()["encoder_layers"] == [64, 32]
    assert AgentConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert AgentConfig(encoder_layers=()).to_dict()["encoder_layers"] == []


def test_the_earlier_rollouts_must_be_kept() -> None:
    pqn: dict[str, Any] = {"algorithm": "pqn", "kept_rollouts": 2}
    config = AgentConfig(**pqn, past_rollouts=Linear(0, 2.4, 10))
    assert AgentConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    for past in (3, Linear(0, 2.6, 10)):
        with pytest.raises(InvalidConfig, match=r"^past_rollouts must be at most kept_rollouts, 2, got "):
            AgentConfig(**pqn, past_rollouts=past)
    with pytest.raises(InvalidConfig, match=r"^past_rollouts must be at least 0 at every step, got "):
        AgentConfig(**pqn, past_rollouts=Linear(0, -1, 10))
    with pytest.raises(InvalidConfig, match=r"^kept_rollouts must be 0 with an lstm, got 2"):
        AgentConfig(**pqn, lstm=8)


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


PLAIN = {  # no parts
    "n_step": 1,
    "gradient_steps": 1,
    "double": False,
    "dueling": False,
    "noisy": False,
    "head": "scalar",
    "prioritized": False,
    "munchausen": False,
    "target": None,
    "value_rescaling": False,
    "layer_norm": False,
    "encoder_width": 1,
    "spectral_norm": False,
    "adaptive_pool": None,
    "reset_every": None,
    "lstm": None,
    "frame_stack": 4,
    "frame_size": 84,
    "epsilon_ladder": False,
    "epsilon_off": None,
    "evaluation_noise": False,
    "clip_weighted": False,
    "learning_rate_steps": None,
    "weight_decay": 0.0,
    "max_grad_norm": None,
    "hidden": 512,
    "algorithm": "dqn",
    "target_tau": None,
    "channel_norm": False,
    "contrast_norm": False,
    "activation": "relu",
    "initialization": "auto",
    "categorical_loss": "projection",
    "precision": "float32",
    "cuda_graph": True,
    "compile_update": False,
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
    "evaluation_epsilon": 0.05,
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
    "evaluation_epsilon": 0.001,
    "learning_starts": 20_000,
    "reward_clip": 1.0,
    "loss": "squared",
    "encoder": "dopamine",
}


DOUBLE = NATURE | {"double": True}  # van Hasselt et al. 2016
DISTRIBUTIONAL = DOPAMINE | {"loss": "huber"}
SQRT_PRIORITIES = {  # Dopamine: priority √(loss + 1e-10), weight 1 / √probability
    "prioritized": True,
    "priority_alpha": 0.5,
    "priority_beta": 0.5,
    "priority_beta_steps": None,
    "priority_epsilon": 1e-10,
    "priority_uniform": 0.0,
}
IQN = {"head": "implicit", "tau_samples": 64, "tau_samples_target": 64, "tau_samples_policy": 32, "cosines": 64}
MUNCHAUSEN = {
    "munchausen": True,
    "munchausen_alpha": 0.9,
    "munchausen_temperature": 0.03,
    "munchausen_clip": -1.0,
}
SLOW = {"learning_rate": 5e-5, "adam_epsilon": 0.0003125, "kappa": 1.0}
C51 = {"head": "categorical", "atoms": 51, "v_min": -10.0, "v_max": 10.0}
RAINBOW = C51 | {  # Hessel et al. 2018, table 1
    "double": True,
    "dueling": True,
    "noisy": True,
    "noisy_sigma": 0.5,
    "n_step": 3,
    "prioritized": True,
    "priority_alpha": 0.5,
    "priority_beta": 0.4,
    "priority_beta_end": 1.0,
    "priority_beta_steps": 50_000_000 - 20_000,  # to the last step
    "optimizer": "adam",
    "learning_rate": 0.0000625,
    "adam_epsilon": 1.5e-4,
    "learning_starts": 80_000 // 4,
    "target_update_every": 32_000 // 4,
    "replay_capacity": 1_000_000,
    "batch_size": 32,
    "train_every": 4,
    "gamma": 0.99,
    "epsilon_start": 0.0,
    "epsilon_end": 0.0,
    "evaluation_epsilon": 0.0,  # as in DQN Zoo, with noise
    "evaluation_noise": True,
    "reward_clip": 1.0,
    "encoder": "nature",
}
PQN = {  # Gallici et al. 2025; the loss is twice theirs
    "algorithm": "pqn",
    "rollout_length": 32,
    "minibatches": 32,
    "epochs": 2,
    "kept_rollouts": 0,
    "past_rollouts": 0,
    "td_lambda": 0.65,
    "overlap": False,
    "gamma": 0.99,
    "loss": "squared",
    "optimizer": "radam",
    "learning_rate": 2.5e-4,
    "adam_epsilon": 2e-8,
    "max_grad_norm": 20.0,
    "learning_starts": 1,
    "epsilon_start": 1.0,
    "epsilon_end": 0.001,
    "epsilon_steps": 5_000_000,
    "evaluation_epsilon": 0.0,
    "reward_clip": 1.0,
    "channel_norm": True,
    "initialization": "he",
    "encoder": "auto",
}
MINATAR = {"reward_clip": None, "encoder": "minatar", "hidden": 128}
HADAMAX = {"encoder": "hadamax", "activation": "gelu", "initialization": "auto"}
NUMBERS: dict[str, dict[str, Any]] = {
    "nature": NATURE,
    "dqn": DOPAMINE,
    "double": DOUBLE,
    "dueling": DOUBLE | {"dueling": True, "learning_rate": 2e-4, "max_grad_norm": 10.0},
    "per": DOUBLE
    | {"learning_rate": 6.25e-5, "prioritized": True, "priority_alpha": 0.6}
    | {"rmsprop_epsilon": (0.01 / 32**2) * (1 / 4) ** 2, "clip_weighted": True}  # DQN Zoo
    | {"target_update_every": 30_000, "epsilon_end": 0.01, "evaluation_epsilon": 0.01}  # van Hasselt et al. 2016, tuned
    | {"priority_beta": 0.4, "priority_beta_end": 1.0, "priority_beta_steps": 49_950_000},
    "c51": DISTRIBUTIONAL | C51 | {"learning_rate": 2.5e-4, "adam_epsilon": 3.125e-4},
    "qrdqn": DISTRIBUTIONAL
    | SLOW
    | SQRT_PRIORITIES
    | {"head": "quantile", "quantiles": 200, "n_step": 3, "priority_beta": 0.0},
    "iqn": DISTRIBUTIONAL | IQN | SLOW | {"n_step": 3},
    "fqf": DISTRIBUTIONAL
    | SLOW
    | {"learning_starts": 50_000, "target_update_every": 10_000, "epsilon_steps": 1_000_000}
    | {"head": "fqf", "quantiles": 32, "fraction_learning_rate": 2.5e-9, "fraction_entropy": 0.0, "cosines": 64}
    | {"fraction_epsilon": 1e-5 / 1024},  # 1e-5 of a sum over 32
    "munchausen": DISTRIBUTIONAL | MUNCHAUSEN | {"learning_rate": 5e-5, "adam_epsilon": 3.125e-4},
    "munchausen_iqn": DISTRIBUTIONAL | MUNCHAUSEN | IQN | SLOW,
    "rainbow": RAINBOW,
    "rainbow_dopamine": DISTRIBUTIONAL | C51 | SQRT_PRIORITIES | {"n_step": 3},
    "der": RAINBOW  # van Hasselt et al. 2019
    | {"n_step": 20, "learning_rate": 1e-4, "max_grad_norm": 10.0, "noisy_sigma": 0.1, "replay_capacity": 100_000}
    | {"learning_starts": 1_600, "train_every": 1, "target_update_every": 2_000, "priority_beta_steps": 98_400}
    | {"encoder": "der", "hidden": 256, "evaluation_epsilon": 0.001, "evaluation_noise": False},
    "btr": MUNCHAUSEN  # Clark et al. 2025
    | {"head": "implicit", "tau_samples": 8, "tau_samples_target": 8, "tau_samples_policy": 8, "cosines": 64}
    | {"encoder": "impala", "encoder_width": 2, "spectral_norm": True, "adaptive_pool": 6, "hidden": 512}
    | {"dueling": True, "noisy": True, "noisy_sigma": 0.5, "n_step": 3, "gamma": 0.997, "batch_size": 256}
    | {"train_every": 64, "target_update_every": 32_000, "max_grad_norm": 10.0, "replay_capacity": 1_048_576}
    | {"optimizer": "adam", "learning_rate": 1e-4, "adam_epsilon": 1.953125e-5, "learning_starts": 200_000}
    | {"prioritized": True, "priority_alpha": 0.2, "priority_beta": 0.4, "priority_beta_end": 1.0}
    | {"priority_beta_steps": 49_800_000, "epsilon_start": 1.0, "epsilon_end": 0.01, "epsilon_steps": 2_000_000}
    | {"epsilon_off": 25_000_000, "evaluation_epsilon": None, "reward_clip": 1.0, "kappa": 1.0},
    "drqn": NATURE  # Hausknecht & Stone 2015, but for its ADADELTA
    | {"optimizer": "adam", "adam_epsilon": 1e-8, "max_grad_norm": 10.0, "replay_capacity": 400_000, "frame_stack": 1}
    | {"lstm": 512, "hidden": 0, "lstm_last_action": False, "lstm_last_reward": False}
    | {"sequence_length": 10, "sequence_period": 1, "sequence_state": "zero", "burn_in": 0},
    "r2d2": {"lstm": 512, "hidden": 512, "lstm_last_action": True, "lstm_last_reward": True}  # Kapturowski et al. 2019
    | {"sequence_length": 80 + 40, "sequence_period": 40, "sequence_state": "stored", "burn_in": 40, "frame_stack": 1}
    | {"double": True, "dueling": True, "value_rescaling": True, "reward_clip": None, "loss": "squared"}
    | {"n_step": 5, "gamma": 0.997, "prioritized": True, "priority_alpha": 0.9, "priority_beta": 0.6}
    | {"priority_beta_steps": None, "priority_eta": 0.9, "batch_size": 64, "encoder": "nature"}
    # Acme's numbers over 40, as its loss is 40 times this one
    | {"optimizer": "adam", "learning_rate": 1e-4, "adam_epsilon": 1e-3 / 40, "max_grad_norm": 1.0}
    | {"replay_capacity": 100_000 * 40, "learning_starts": 5_000 * 40, "epsilon_ladder": True}
    | {"evaluation_epsilon": None}
    | {"train_every": 256 * 260 // 4 // 5, "target_update_every": 2_500 * 3_328},
    "pqn": PQN,
    "pqn_hadamax": PQN | HADAMAX,
    "pqn_hl_gauss": PQN
    | HADAMAX
    | C51
    | {"encoder": "hadamax_deep", "categorical_loss": "hl_gauss", "hl_gauss_sigma": 0.75, "dueling": True}
    | {"loss": "huber", "adam_epsilon": 1e-8, "max_grad_norm": 10.0},
    "pqn_lstm": PQN
    | {"lstm": 512, "lstm_last_action": True, "lstm_last_reward": False, "frame_stack": 1, "minibatches": 4},
    "minatar_dqn": NATURE
    | MINATAR
    | {
        "replay_capacity": 100_000,
        "rmsprop_epsilon": 1e-4,
        "learning_starts": 5_000,
        "train_every": 1,
        "epsilon_steps": 100_000,
    }
    | {"target_update_every": 1_000, "evaluation_epsilon": None},
    "minatar_rainbow": RAINBOW
    | MINATAR
    | {"v_min": -100.0, "v_max": 100.0, "learning_rate": 1e-4, "adam_epsilon": 3.125e-4}
    | {"replay_capacity": 100_000, "priority_beta_steps": 9_999_000}
    | {"learning_starts": 1_000, "target_update_every": 1_000},
    "minatar_pqn": PQN
    | MINATAR
    | {"learning_rate": 5e-4, "learning_rate_end": 0.0, "learning_rate_steps": 10_000_000}
    | {"epsilon_end": 0.05, "epsilon_steps": 1_000_000},
}


@pytest.mark.parametrize("name", NUMBERS)
def test_presets_have_the_numbers_of_their_sources(name: str) -> None:
    values = preset(name).to_dict()
    expected = PLAIN | NUMBERS[name]
    assert {field: values[field] for field in expected} == expected
    # What the table does not name must have no effect, or it would go unchecked.
    unnamed = set(values) - set(expected)
    without_effect = {"learning_rate_end", "reset_shrink"}
    if expected["optimizer" if "optimizer" in expected else "head"] == "rmsprop":
        without_effect |= {"adam_epsilon"}
    else:
        without_effect |= {"rmsprop_decay", "rmsprop_epsilon"}
    for part, fields in PART_FIELDS.items():
        field, _, value = part.partition("=")
        if values[field] != (value or True):
            without_effect |= fields
    without_effect |= {"cosines"} if values["head"] not in ("implicit", "fqf") else set()
    without_effect |= {"kappa"} if values["head"] in ("scalar", "categorical") else set()
    if values["priority_beta_steps"] is None:
        without_effect |= {"priority_beta_end"}
    without_effect |= {"epsilon"} if values["epsilon"] is None else set()
    if values["epsilon_start"] == values["epsilon_end"]:
        without_effect |= {"epsilon_steps"}
    if values["head"] != "scalar":
        without_effect |= {"loss"}
    if values["epsilon_ladder"]:
        without_effect |= {"epsilon_start", "epsilon_end", "epsilon_steps"}
    if values["prioritized"] is False:
        without_effect |= {"priority_eta"}
    if values["algorithm"] == "pqn":
        without_effect |= {*OF_REPLAY, "priority_eta", "priority_beta_end"}
    else:
        without_effect |= {*OF_ROLLOUTS}
    if values["categorical_loss"] == "projection":
        without_effect |= {"hl_gauss_sigma"}
    without_effect |= {"priority_epsilon", "priority_uniform"}  # tiny, and 0
    assert unnamed <= without_effect


PART_FIELDS = {
    "noisy": {"noisy_sigma"},
    "lstm": {"lstm_last_action", "lstm_last_reward", "sequence_length", "sequence_period", "sequence_state", "burn_in"}
    | {"priority_eta"},
    "prioritized": {"priority_alpha", "priority_beta", "priority_beta_end", "priority_beta_steps"},
    "munchausen": {"munchausen_alpha", "munchausen_temperature", "munchausen_clip"},
    "head=categorical": {"atoms", "v_min", "v_max"},
    "head=quantile": {"quantiles"},
    "head=implicit": {"tau_samples", "tau_samples_target", "tau_samples_policy"},
    "head=fqf": {"fraction_learning_rate", "fraction_epsilon", "fraction_entropy", "quantiles"},
}


def test_every_published_preset_is_checked() -> None:
    assert set(PRESETS) - set(NUMBERS) == {"quick", "quick_dqn", "classic", "quick_recurrent"}


def test_every_preset_is_named_after_its_function_and_cites_what_it_is() -> None:
    assert {"nature", "dqn", "quick"} <= set(PRESETS)
    for name, make in PRESETS.items():
        assert make.__name__ == name
        assert make() == preset(name)
        assert make.__doc__


PROTOCOL_OF = {
    "nature": "nature double dueling per fqf rainbow drqn",
    "envpool": "pqn pqn_hadamax pqn_hl_gauss pqn_lstm quick",
    "100k": "der",
    "sticky": "dqn c51 qrdqn iqn munchausen munchausen_iqn rainbow_dopamine btr r2d2 quick_dqn classic "
    "quick_recurrent minatar_dqn minatar_rainbow minatar_pqn",
}


def test_every_preset_names_the_protocol_of_its_source() -> None:
    expected = {name: protocol for protocol, names in PROTOCOL_OF.items() for name in names.split()}
    assert expected == PRESET_PROTOCOLS
    assert set(PRESET_PROTOCOLS) == set(PRESETS)
    assert set(PRESET_PROTOCOLS.values()) <= set(PROTOCOLS)


def test_a_training_has_the_number_of_environments_of_its_preset() -> None:
    others = {"btr": 64, "quick": 16, "quick_recurrent": 16}
    expected = dict.fromkeys(PRESETS, 8) | dict.fromkeys([name for name in PRESETS if "pqn" in name], 128) | others
    assert expected == PRESET_NUM_ENVS
    assert {name: defaults_of(name).num_envs for name in PRESETS} == expected


def test_the_page_has_the_protocol_and_the_evaluation_epsilon_of_every_preset() -> None:
    lines = PAGE.read_text().splitlines()
    rows = lines[lines.index("| name | what | protocol | evaluation ε | source |") + 2 :]
    found = {}
    for row in rows[: rows.index("")]:
        names, _, protocol, epsilon, _ = (cell.strip() for cell in row.strip("|").split("|"))
        found |= dict.fromkeys(names.strip("`").split("` `"), (protocol.strip("`"), float(epsilon.split(",")[0])))
    expected = {}
    for name, protocol in PRESET_PROTOCOLS.items():
        own = preset(name).evaluation_epsilon
        expected[name] = protocol, PROTOCOLS[protocol].evaluation_epsilon if own is None else own
    others = "classic quick_recurrent minatar_dqn minatar_rainbow minatar_pqn".split()
    assert set(others) == set(PRESETS) - ATARI_PRESETS
    assert found == expected | dict.fromkeys(others, ("", 0.0))


@pytest.mark.parametrize("name", PRESETS)
def test_a_configuration_with_the_settings_of_a_preset_is_named_by_it(name: str) -> None:
    config = preset(name)
    assert preset_of(config) == name
    free = {
        "evaluation_epsilon": 0.5,
        "evaluation_noise": not config.evaluation_noise,
        "cuda_graph": False,
        "compile_update": config.lstm is None,
    }
    assert preset_of(dataclasses.replace(config, frame_stack=2, **free)) == name
    assert preset_of(dataclasses.replace(config, gamma=0.5)) is None


def test_settings_that_make_another_preset_are_named_by_that() -> None:
    assert preset_of(AgentConfig()) is None
    assert preset_of(dataclasses.replace(preset("nature"), double=True)) == "double"


def test_a_configuration_can_be_given_by_the_name_of_a_preset() -> None:
    assert config_of("classic") == preset("classic")
    assert config_of(CHANGED) is CHANGED
    assert config_of(None) == AgentConfig()
    with pytest.raises(InvalidConfig, match=r"^unknown preset 'clasic'; did you mean 'classic'\?$"):
        config_of("clasic")
    with pytest.raises(InvalidConfig, match=r"^config must be an AgentConfig, the name of a preset or None, got dict$"):
        config_of({"gamma": 0.9})  # type: ignore[arg-type]


def test_a_field_that_is_unknown_gets_a_sentence() -> None:
    sentence = r"^unknown field 'learning_rat' of the agent's configuration; did you mean 'learning_rate'\?$"
    for make in (AgentConfig, lambda **values: dataclasses.replace(CHANGED, **values)):
        with pytest.raises(InvalidConfig, match=sentence):
            make(learning_rat=1)
    assert str(inspect.signature(AgentConfig)) == "(**settings)"
    assert copy.deepcopy(CHANGED) == pickle.loads(pickle.dumps(CHANGED)) == CHANGED


@pytest.mark.parametrize(("wrong", "near"), [("natur", "nature"), ("dqm", "dqn"), ("quik", "quick")])
def test_unknown_presets_suggest_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(InvalidConfig, match=f"^unknown preset '{wrong}'; did you mean '{near}'\\?$"):
        preset(wrong)


def test_unknown_presets_far_from_any_are_answered_with_all() -> None:
    with pytest.raises(InvalidConfig, match=r"^unknown preset 'zzzzzz'; there are .*nature.*dqn.*quick"):
        preset("zzzzzz")


def test_what_is_no_name_is_no_preset() -> None:
    for wrong, sentence in (
        (["dqn"], r"^unknown preset \['dqn'\]; did you mean 'dqn'\?$"),
        (3, "^unknown preset 3; there are "),
    ):
        with pytest.raises(InvalidConfig, match=sentence):
            preset(wrong)  # type: ignore[arg-type]
