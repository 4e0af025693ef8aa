"""A run of an older version, written before the package was divided into rooms, is loaded, evaluated and resumed.

tests/data/run-0.1.0 was made with

    pixelq train --env pixelq/Catch-v0 --preset rainbow --steps 120 --num-envs 2 --device cpu --final-episodes 2
        --evaluation-episodes 2 --agent.hidden 8 --agent.encoder mlp --agent.batch-size 4 --agent.learning-starts 20
        --agent.replay-capacity 60 --agent.atoms 5 --checkpoint-every 40 --evaluate-every 60 --log-every 20

and run-0.1.0-at-200.safetensors holds its weights after the same version had resumed it up to step 200.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from pixelq.agents import DQN, Policy, preset
from pixelq.agents.results.records import agent_of, load_run
from pixelq.agents.runs.tables import read_config
from pixelq.agents.storage.pointers import checkpoint_folder
from pixelq.agents.storage.rules import rules_of, with_rules
from pixelq.agents.storage.rules import split_rules as split_without_envs
from pixelq.envs import split_rules, with_flicker
from pixelq.scripts.flags.train import read as read_train
from tests.support.runs import copied, run_here

DATA = Path(__file__).parents[1] / "data"
RESULTS = Path(__file__).parents[2] / "docs" / "results"
WEIGHTS = DATA / "run-0.1.0-at-200.safetensors"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return copied(DATA / "run-0.1.0", tmp_path / "run")


def test_its_policy_acts_as_its_agent(run: Path) -> None:
    policy, agent = Policy.load(run, "cpu"), DQN.load(run, "cpu")
    assert (agent.step, agent.updates, agent.env_id, agent.protocol) == (120, 25, "pixelq/Catch-v0", "gymnasium")
    obs = np.random.default_rng(0).integers(256, size=(5, 1, 10, 5), dtype=np.uint8)
    assert policy.q_values(obs).tolist() == agent.q_values(obs).tolist()


def test_it_is_evaluated_and_read(run: Path) -> None:
    ended = run_here(["evaluate", str(run), "--episodes", "4", "--device", "cpu", "--json"])
    assert ended.code == 0, ended.err
    figures = json.loads(ended.out)
    assert (figures["env"], figures["protocol"], figures["step"]) == ("pixelq/Catch-v0", "gymnasium", 120)
    assert len(figures["returns"]) == 4
    found = load_run(run)
    assert found.metrics["step"].tolist()[-1] == 120
    assert found.final is not None


def test_it_is_resumed_exactly(run: Path) -> None:
    ended = run_here(["train", "--resume", "--out", str(run), "--steps", "200", "--device", "cpu"])
    assert ended.code == 0, ended.err
    assert DQN.load(run / "checkpoints" / "latest", "cpu").step == 200
    (entry,) = json.loads((run / "config.json").read_text())["resumed"]
    assert entry["step"] == 120
    if not entry["exact"]:  # sums are rounded otherwise on another processor or by another PyTorch
        pytest.skip(f"not on the machine that made the run: {entry['why_not']}")
    assert (
        checkpoint_folder(run / "checkpoints" / "latest") / "network.safetensors"
    ).read_bytes() == WEIGHTS.read_bytes()


@pytest.mark.parametrize("flicker", [0, 0.0, 0.25, 0.5])
def test_flicker_that_was_stored_apart_joins_the_protocol(run: Path, flicker: float) -> None:
    path = run / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"protocol": "nature", "flicker": flicker}))
    config = read_config(run)
    assert config["protocol"] == with_flicker("nature", flicker).rules
    assert "flicker" not in config


@pytest.mark.parametrize("flicker", [1.0, -0.1, "0.5", True, None])
def test_flicker_that_is_no_probability_is_refused(flicker: object) -> None:
    with pytest.raises(ValueError, match=r"flicker must be in \[0, 1\), got"):
        rules_of({"protocol": "sticky", "flicker": flicker})


def test_rules_are_joined_once() -> None:
    joined = with_rules({"protocol": "nature", "flicker": 0.5, "env": "ALE/Pong-v5"})
    assert joined == {"protocol": "nature+flicker=0.5", "env": "ALE/Pong-v5"}
    assert with_rules(joined | {"flicker": 0.5}) == joined
    assert split_rules(joined["protocol"]) == ("nature", 0.5)
    assert split_rules("a+protocol") == ("a+protocol", 0.0)
    for rules in (joined["protocol"], "a+protocol", "a+flicker=often", "+flicker=.5", "a+flicker=0.1+flicker=1e-3"):
        assert split_without_envs(rules) == split_rules(rules)


def test_a_run_of_the_former_quick_is_one_of_quick_dqn(tmp_path: Path) -> None:
    """Also where its settings are no preset's, as in docs/results/pong-quick-bfloat16."""
    run = copied(RESULTS / "pong-quick-bfloat16", tmp_path / "run")
    assert read_config(run)["preset"] == "quick_dqn"
    assert agent_of(read_config(run)) == "quick_dqn, precision bfloat16"
    for given in ([], ["--preset", "quick"], ["--preset", "quick_dqn"]):
        assert read_train(["--resume", "--out", str(run), "--steps", "2000000", *given]).preset == "quick_dqn"
    path = run / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"agent": preset("quick").to_dict() | {"gamma": 0.5}}))
    assert read_config(run)["preset"] == "quick"
