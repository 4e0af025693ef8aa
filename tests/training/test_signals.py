"""Signals that ask a run to stop: which are heard, and how the run ends."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pixelq.agents import DQN, AgentConfig
from pixelq.agents.runs.progress import STOPPED, read_progress
from pixelq.agents.training.signals import STOPPING, stop_signals
from pixelq.envs import make_vec

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs the signals of POSIX")


def learn_and_signal(number: int, out: Path) -> DQN:
    """Train for 300 steps, with a signal after the 50th."""
    envs = make_vec("pixelq/Catch-v0", 1)
    config = AgentConfig(hidden=8, learning_starts=8, batch_size=4, replay_capacity=50, encoder="mlp")
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    explore, sent = agent.explore, []

    def explore_and_signal(obs: Any, memory: Any) -> Any:
        if agent.step == 49 and not sent:
            sent.append(50)
            signal.raise_signal(number)
        return explore(obs, memory)

    agent.explore = explore_and_signal  # type: ignore[method-assign]
    agent.learn(envs, 300, out)
    assert sent == [50]
    return agent


@pytest.mark.parametrize(("name", "code"), [("SIGHUP", 129), ("SIGUSR1", 138), ("SIGTERM", 143)])
def test_a_signal_ends_a_run_in_good_order(tmp_path: Path, name: str, code: int) -> None:
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as stop:
            learn_and_signal(number, tmp_path / "run")
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert stop.value.code == code
    assert DQN.load(tmp_path / "run", "cpu").step == 50
    progress = read_progress(tmp_path / "run")
    assert progress is not None
    assert (progress.phase, progress.step) == (STOPPED, 50)


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGTERM"])
def test_what_is_ignored_stays_ignored(tmp_path: Path, name: str) -> None:
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        assert learn_and_signal(number, tmp_path / "run").step == 300
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_second_signal_acts_as_without_a_run() -> None:
    heard: list[int] = []
    before = {number: signal.signal(number, lambda number, _: heard.append(-number)) for number in STOPPING}
    received: list[int] = []
    try:
        with stop_signals(received):
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGHUP)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (received, heard) == ([signal.SIGUSR1], [-signal.SIGUSR1, -signal.SIGHUP])


@pytest.mark.parametrize(("handler", "code"), [("SIG_DFL", 129), ("SIG_IGN", 0)])
def test_the_command_line_ends_in_good_order_outside_a_training_too(handler: str, code: int) -> None:
    program = (
        "import signal, sys, pixelq.scripts.main as main\n"
        f"signal.signal(signal.SIGHUP, signal.{handler})\n"
        "main._run = lambda *_: signal.raise_signal(signal.SIGHUP) or 0\n"
        "sys.exit(main.main(['presets']))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == code
