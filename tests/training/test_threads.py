"""The number of threads with which PyTorch computes, and how they wait."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from pixelq.agents import DQN, PQN, AgentConfig, preset
from pixelq.agents.training import threads
from pixelq.agents.training.threads import batch_multiplications, suitable_threads
from pixelq.envs import make_vec
from pixelq.scripts.benchmarks import side_by_side
from pixelq.scripts.main import WAITING

SPACES = {
    "CartPole": gymnasium.spaces.Box(-1, 1, (4,)),
    "MinAtar": gymnasium.spaces.Box(0, 1, (4, 10, 10)),
    "Pong": gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8),
}


def agent_of(work: str, **settings: object) -> DQN:
    config = replace(preset("quick_dqn"), **settings)
    return DQN(SPACES[work], gymnasium.spaces.Discrete(6), config, device="cpu")


@pytest.fixture(autouse=True)
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has chosen nothing, on four cores."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "FROM_THE_START", 4)
    monkeypatch.setattr(threads, "usable_cores", lambda: 3)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def threads_of(agent: DQN, run: Path | None = None) -> int:
    with suitable_threads(agent, 8, run):
        chosen = torch.get_num_threads()
    assert torch.get_num_threads() in (4, 2)  # as before
    return chosen


def test_work_is_counted_in_multiplications() -> None:
    assert batch_multiplications(agent_of("CartPole"), 8) == 32 * (4 * 512 + 512 * 512 + 512 * 6)
    convolutions = 4 * 64 * 32 * 20**2 + 32 * 16 * 64 * 9**2 + 64 * 9 * 64 * 7**2
    assert batch_multiplications(agent_of("Pong"), 8) == 32 * (convolutions + 3136 * 512 + 512 * 6)
    lstm = agent_of("CartPole", lstm=8, sequence_length=10, sequence_period=5, burn_in=0, hidden=16)
    assert batch_multiplications(lstm, 8) == 32 * 10 * (4 * 16 + 4 * 8 * (16 + 8) + 8 * 16 + 16 * 6)


def test_the_rows_of_a_rollout_s_minibatch_count() -> None:
    """`batch_size` plays no part: 10 steps of N environments are learned from in 4 minibatches."""
    spaces = SPACES["CartPole"], gymnasium.spaces.Discrete(6)
    settings = {"algorithm": "pqn", "rollout_length": 10, "minibatches": 4, "learning_starts": 1, "hidden": 16}
    agent = PQN(*spaces, AgentConfig(**settings), device="cpu")
    row = 4 * 16 + 16 * 16 + 16 * 6
    assert [batch_multiplications(agent, num_envs) / row for num_envs in (1, 2, 8, 9, 128)] == [3, 5, 20, 23, 320]
    lstm = PQN(*spaces, AgentConfig(lstm=8, **settings), device="cpu")
    row = 4 * 16 + 4 * 8 * (16 + 8) + 8 * 16 + 16 * 6
    assert [batch_multiplications(lstm, num_envs) / row for num_envs in (4, 5, 128)] == [10, 20, 320]


def test_a_layer_of_an_own_encoder_may_return_anything() -> None:
    class Pair(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
            return super().forward(x), x

    class First(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair(4, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.pair(x)[0]

    agent = DQN(SPACES["CartPole"], gymnasium.spaces.Discrete(6), preset("quick_dqn"), device="cpu", encoder=First())
    assert batch_multiplications(agent, 8) == 32 * (5 * 512 + 512 * 6)


def test_small_networks_compute_with_one_thread() -> None:
    assert [threads_of(agent_of(work)) for work in SPACES] == [1, 1, 3]


def test_more_environments_give_larger_minibatches_and_so_threads() -> None:
    agent = PQN(SPACES["Pong"], gymnasium.spaces.Discrete(6), "pqn", device="cpu")  # 9.3 million in a row
    for num_envs, expected in ((2, 1), (4, 1), (8, 3)):
        with suitable_threads(agent, num_envs, None):
            assert torch.get_num_threads() == expected


def test_the_user_s_number_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    assert threads_of(agent_of("CartPole")) == 2
    torch.set_num_threads(4)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert threads_of(agent_of("CartPole")) == 4


def test_a_resumed_run_keeps_its_number(tmp_path: Path) -> None:
    config, own = {"env": "x", "protocol": None, "agent": {}}, {"device": "cpu", "torch_threads": 2}
    (tmp_path / "config.json").write_text(json.dumps(config | {"hardware": own}))
    assert threads_of(agent_of("CartPole"), tmp_path) == 2
    for hardware in (own | {"torch_threads": 100}, own | {"device": "NVIDIA H200"}, [1], None):
        (tmp_path / "config.json").write_text(json.dumps(config | {"hardware": hardware}))
        assert threads_of(agent_of("CartPole"), tmp_path) == 1
    (tmp_path / "config.json").write_text("[]")
    assert threads_of(agent_of("CartPole"), tmp_path) == 1


def test_a_run_records_what_it_computed_with(tmp_path: Path) -> None:
    envs = make_vec("CartPole-v1", num_envs=1)
    config = AgentConfig(hidden=8, learning_starts=5, batch_size=4, replay_capacity=50)
    DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu").learn(envs, 10, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["hardware"]["torch_threads"] == 1
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(("given", "found"), [({}, ["passive", "3000"]), ({"GOMP_SPINCOUNT": "7"}, ["None", "7"])])
def test_the_command_line_lets_waiting_threads_sleep(given: dict[str, str], found: str) -> None:
    program = (
        "import os, sys\nimport pixelq.scripts.main as main\n"
        "main._run = lambda *_: print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'), "
        "'torch' in sys.modules) or 0\n"
        "main.main(['presets'])"
    )
    environ = {name: value for name, value in os.environ.items() if name not in WAITING}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environ | given, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*found, "False"]


def test_the_benchmark_compares_runs_at_once_with_runs_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "seconds_at_once", lambda flags, runs: {1: 10.0, 2: 20.0, 3: 45.0}[runs])
    monkeypatch.setattr(sys, "argv", ["side_by_side", "--work", "CartPole"])
    assert side_by_side.main() == 1
    monkeypatch.setattr(sys, "argv", ["side_by_side", "--work", "CartPole", "--most", "2"])
    assert side_by_side.main() == 0
