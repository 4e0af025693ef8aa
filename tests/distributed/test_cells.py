"""Cells of a sweep: their names, and that their command lines say what they are."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pixelq.agents import AgentConfig
from pixelq.agents.acting.network import learning_bytes
from pixelq.agents.distributed.cells import cells_of
from pixelq.agents.distributed.needs import needs_of
from pixelq.agents.distributed.spec import SERVICES, read_values, spec_of
from pixelq.agents.distributed.trials import plan_of
from pixelq.agents.errors import InvalidSpec
from pixelq.agents.experience.replay import make_replay
from pixelq.agents.experience.rollout import make_rollout
from pixelq.envs import ATARI5, make_vec
from pixelq.scripts.flags.train import read
from pixelq.scripts.tracking import TRACKERS
from tests.support.cases import examples

SPEC: dict[str, Any] = {"envs": ["CartPole-v1"], "presets": ["classic"], "seeds": [0], "steps": 100}
VALUES = {
    "gamma": [0.9, 0.99, 1, "linear(0.9, 0.99, 1000)"],
    "n_step": [1, 3, 5.0],
    "double": [True, False],
    "learning_rate": [1e-3, 2.5e-4, "cosine(1e-3, 1e-5, 1000)"],
    "max_grad_norm": ["None", 10.0],
    "hidden": [8, 64],
    "target_tau": ["None", 0.005],
}
FLAGS: dict[str, list[Any]] = {
    "num_envs": [1, 4],
    "protocol": ["nature", "sticky"],
    "device": ["cpu"],
    "deterministic": [True, False],
    "checkpoint_every": [100, 1e3],
    "evaluation_episodes": [3],
    "evaluation_episode_steps": [50],
    "grayscale": [True],
    "flicker": [0.25],
    "frame_size": [42],
    "env_kwargs": [{"size": 5, "name": "a b", "is_slippery": False, "places": [1, 2]}],
    "wrappers": [["gymnasium.wrappers:TimeAwareObservation"]],
    "callback": [["StopAtScore(score=18)", "StopAfter(hours=2)"]],
    "track": [["wandb"]],
}


def chosen(values: dict[str, list[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: st.sampled_from(each) for name, each in values.items()})


@settings(max_examples=examples(8), deadline=None)
@example(
    agent={name: values[-1] for name, values in VALUES.items()},
    flags={name: values[0] for name, values in FLAGS.items()},
    preset="rainbow",
)
@given(agent=chosen(VALUES), flags=chosen(FLAGS), preset=st.sampled_from(["classic", "quick_dqn", "rainbow", "nature"]))
def test_a_command_line_says_what_the_cell_is(agent: dict[str, Any], flags: dict[str, Any], preset: str) -> None:
    (cell,) = cells_of(spec_of(SPEC | flags | {"presets": [preset], "agent": agent}))
    verb, *words = cell.words(Path("out"), resume=False)
    args = read(words)
    assert (verb, args.env, args.preset, args.seed, args.steps) == ("train", "CartPole-v1", preset, 0, 100)
    assert args.agent == cell.config
    assert args.out == Path("out")
    for name, value in flags.items():
        if name == "protocol":  # of Atari games alone
            continue
        found = getattr(args, {"callback": "callbacks"}.get(name, name))
        assert (list(found) if isinstance(found, tuple) else found) == value, name
    plain = cells_of(spec_of(SPEC | {"presets": [preset]}))[0]
    changed = {field.name for field in dataclasses.fields(AgentConfig)} & cell.agent.keys()
    assert changed == {name for name in agent if getattr(cell.config, name) != getattr(plain.config, name)}


NAMES = st.lists(st.sampled_from(["CartPole-v1", "pixelq/Catch-v0", "ALE/Pong-v5"]), min_size=1, unique=True)


def test_the_example_is_a_sweep() -> None:
    values = read_values(Path(__file__).parents[2] / "docs" / "examples" / "minatar.toml")
    cells = cells_of(spec_of(values | {"envs": ["CartPole-v1"]}))  # those of MinAtar need its package
    assert (len(values["envs"]), len(cells)) == (5, 4 * 3)
    assert {cell.config.priority_beta_steps for cell in cells if cell.preset == "minatar_rainbow"} == {80_000}
    assert {(cell.preset, cell.steps) for cell in cells} == {
        ("minatar_dqn", 80_000),
        ("minatar_rainbow", 80_000),
        ("quick", 400_000),
        ("minatar_pqn", 800_000),
    }


def test_environments_whose_runs_would_share_a_folder_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelq.agents.distributed.spec.check_id", lambda name: name)
    with pytest.raises(
        InvalidSpec, match="runs of 'a/b-v0' and 'a-b-v0' would have the same folder a-b-v0-classic-seed0"
    ):
        cells_of(spec_of(SPEC | {"envs": ["a/b-v0", "a-b-v0"], "presets": ["classic"]}))


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [
        ("device", "tpu", "device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
        ("track", ["foo"], "track must have names among wandb, mlflow, trackio, got 'foo'"),
    ],
)
def test_flags_that_every_run_would_refuse_are_refused_at_once(flag: str, value: Any, sentence: str) -> None:
    with pytest.raises(InvalidSpec, match=sentence):
        spec_of(SPEC | {flag: value})
    assert set(SERVICES) == set(TRACKERS)
    assert spec_of(SPEC | {"device": "cuda:1"}).flags.device == "cuda:1"


def test_a_preset_has_settings_of_its_own() -> None:
    own = {"nature": {"n_step": 2, "gamma": [0.9, 0.95]}}
    spec = spec_of(SPEC | {"presets": ["classic", "nature"], "agent": {"n_step": [3, 5]}, "preset": own})
    found = [(cell.preset, cell.config.n_step, cell.config.gamma) for cell in cells_of(spec)]
    assert found == [("classic", 3, 0.99), ("classic", 5, 0.99), ("nature", 2, 0.9), ("nature", 2, 0.95)]


@pytest.mark.parametrize("layers", [(32, 16), (64,), ()])
def test_a_command_line_has_each_layer_as_a_word(layers: tuple[int, ...]) -> None:
    agent = {"encoder": "mlp", "encoder_layers": [list(layers)]}
    (cell,) = cells_of(spec_of(SPEC | {"agent": agent}))
    assert read(cell.words(Path("out"), resume=False)[1:]).agent.encoder_layers == layers == cell.config.encoder_layers


def test_a_preset_has_steps_of_its_own() -> None:
    spec = spec_of(SPEC | {"presets": ["classic", "nature"], "steps": 300, "preset": {"nature": {"steps": 7e2}}})
    cells = {cell.preset: cell for cell in cells_of(spec)}
    assert {name: cell.steps for name, cell in cells.items()} == {"classic": 300, "nature": 700}
    words = cells["nature"].words(Path("out"), resume=False)
    assert words[words.index("--steps") + 1] == "700"
    assert cells["nature"].agent == {}  # it is no field of the agent, and not in the run's name
    with pytest.raises(InvalidSpec, match=r"preset\.nature\.steps must be an integer of at least 1, got 0"):
        spec_of(SPEC | {"presets": ["nature"], "preset": {"nature": {"steps": 0}}})
    with pytest.raises(InvalidSpec, match="steps must stand at the top of a search's specification"):
        plan_of(SPEC | {"presets": ["nature"], "preset": {"nature": {"steps": 7}}, "search": {"gamma": [0.9, 0.99]}})


@settings(max_examples=examples(15), deadline=None)
@given(
    envs=NAMES,
    seeds=st.lists(st.integers(0, 5), min_size=1, unique=True),
    agent=st.fixed_dictionaries(
        {}, optional={name: st.lists(st.sampled_from(each), min_size=1) for name, each in VALUES.items()}
    ),
)
def test_names_are_those_of_cells(envs: list[str], seeds: list[int], agent: dict[str, list[Any]]) -> None:
    agent = dict(list(agent.items())[:2])  # so that there are not too many
    cells = cells_of(spec_of(SPEC | {"envs": envs, "seeds": seeds, "agent": agent}))
    by_name = {cell.name: (cell.env, cell.seed, cell.config) for cell in cells}
    assert len(by_name) == len(cells)
    assert all(len(name) <= 120 and "/" not in name and " " not in name for name in by_name)
    assert len({json.dumps([env, seed, config.to_dict()]) for env, seed, config in by_name.values()}) == len(cells)
    first = cells_of(spec_of(SPEC | {"envs": envs[:1], "seeds": seeds[:1]}))[0]
    for cell in cells[-2:]:  # a cell has the name that it has alone
        values = {name: [value] for name, value in cell.record()["agent"].items() if not isinstance(value, dict)}
        if cell.agent.keys() == values.keys():
            own = {name: ["None" if each is None else each for each in value] for name, value in values.items()}
            (alone,) = cells_of(spec_of(SPEC | {"envs": [cell.env], "seeds": [cell.seed], "agent": own}))
            assert (alone.name, alone.record()) == (cell.name, cell.record())
    if not first.agent:
        assert first.name.endswith(f"classic-seed{seeds[0]}")


def test_a_suite_is_its_games(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(
        'envs = ["atari5"]\npresets = ["nature", "rainbow"]\nseeds = [0, 1, 2]\nsteps = 1e6\n[agent]\nn_step = [1, 3]\n'
    )
    cells = cells_of(spec_of(read_values(tmp_path / "spec.toml")))
    assert len(cells) == len(ATARI5) * 2 * 3 * 2
    assert cells[0].name == "BattleZone-v5-nature-seed0"
    assert {cell.name for cell in cells if cell.env == "ALE/Qbert-v5" and cell.seed == 2} == {
        "Qbert-v5-nature-seed2",
        "Qbert-v5-nature-n_step=3-seed2",
        "Qbert-v5-rainbow-n_step=1-seed2",
        "Qbert-v5-rainbow-seed2",
    }
    assert {cell.steps for cell in cells} == {10**6}


@pytest.mark.parametrize(
    ("env", "preset"),
    [
        *(("ALE/Pong-v5", name) for name in ("quick_dqn", "rainbow", "r2d2", "pqn", "quick")),
        ("pixelq/Catch-v0", "classic"),
    ],
)
def test_needs_are_what_is_taken(env: str, preset: str) -> None:
    is_pqn = preset in ("pqn", "quick")
    agent = {} if is_pqn else {"replay_capacity": 16_000, "learning_starts": 1_000}
    (cell,) = cells_of(spec_of(SPEC | {"envs": [env], "presets": [preset], "agent": agent}))
    need = needs_of([cell])[cell.name]
    is_atari, stack = env.startswith("ALE/"), cell.config.frame_stack if preset != "classic" else 1
    frames: dict[str, Any] = {"frame_stack": stack} | ({"frame_size": cell.config.frame_size} if is_atari else {})
    envs = make_vec(env, 1, 0, cell.flags.protocol or "sticky", **frames)
    shape, dtype = envs.single_observation_space.shape, envs.single_observation_space.dtype
    make: Any = make_rollout if is_pqn else make_replay
    made = make(shape, dtype, cell.config, num_envs=cell.flags.num_envs, frame_stack=stack, device="cpu", seed=0)
    taken = made.ring.nbytes + made.most_state_bytes
    network = learning_bytes(shape, int(envs.single_action_space.n), cell.config, cell.flags.num_envs)
    assert need.learning - network == pytest.approx(taken, rel=0.04)
