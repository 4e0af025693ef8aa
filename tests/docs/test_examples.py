"""The examples in docs/examples: each is short, and runs in an empty folder."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pixelq.agents import DQN, AgentConfig, load, preset
from pixelq.agents.sharing import export_onnx
from pixelq.envs import make_vec
from tests.support.runs import Harness

PLAY_ONNX = Path(__file__).parents[2] / "docs" / "examples" / "play_onnx.py"
"""Example that needs a file, which another test makes."""
EXAMPLES = sorted(set(PLAY_ONNX.parent.glob("*.py")) - {PLAY_ONNX})
MINIMAL = Path(__file__).parents[2] / "docs" / "minimal.py"
MOST_LINES = 40
STAND_INS = Path(__file__).parents[1] / "support" / "stand_ins"
"""Folder of modules in place of large libraries, which only the examples in full need."""


def needed(example: Path) -> list[str]:
    """The modules of an example that are no part of every installation."""
    return re.findall(r"^# needs (\w+)", example.read_text(), re.MULTILINE)


def export_policy(folder: Path, config: AgentConfig) -> None:
    """Writes the file that an example plays from."""
    envs = make_vec("CartPole-v1", num_envs=1)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    agent.env_id = "CartPole-v1"
    export_onnx(agent, folder / "policy.onnx")


def run(harness: Harness, example: Path, folder: Path) -> None:
    for module in needed(example):
        if not (example.parent / f"{module}.py").exists() and importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    done = harness.start(["script", str(example), str(folder)]).wait(120.0)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_runs(example: Path, tmp_path: Path, harness: Harness) -> None:
    text = example.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    shorter = tmp_path / "examples" / example.name
    shorter.parent.mkdir()
    shorter.write_text(re.sub(r"(?<=steps=)[3-9]_000\b", "600", text))  # some updates, in place of all that it learns
    for module in needed(example):
        if (STAND_INS / f"{module}.py").exists():
            shutil.copy(STAND_INS / f"{module}.py", shorter.parent)
    run(harness, shorter, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_in_full(example: Path, tmp_path: Path, harness: Harness) -> None:
    run(harness, example, tmp_path)


def test_the_minimal_loop_runs_and_is_short(tmp_path: Path, harness: Harness) -> None:
    text = MINIMAL.read_text()
    assert len(text.splitlines()) <= 120
    shorter = tmp_path / MINIMAL.name
    shorter.write_text(text.replace("STEPS = 8_000", "STEPS = 800"))
    done = harness.start(["script", str(shorter), str(tmp_path)]).wait(120.0)
    assert done.code == 0, done.err
    assert re.fullmatch(r"mean return of 100 episodes after 8\d\d steps: -?\d\.\d\d\n", done.out)


@pytest.mark.slow
def test_the_minimal_loop_learns_catch(tmp_path: Path, harness: Harness) -> None:
    done = harness.start(["script", str(MINIMAL), str(tmp_path)]).wait(120.0)
    assert float(done.out.split()[-1]) > 0.9, done.err  # the optimum is 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classic", "quick_recurrent"])
def test_an_onnx_file_is_played_without_torch(name: str, tmp_path: Path) -> None:
    """In a process of its own, as that of the other examples has loaded PyTorch."""
    export_policy(tmp_path, preset(name))
    assert len(PLAY_ONNX.read_text().splitlines()) <= 30
    done = subprocess.run([sys.executable, PLAY_ONNX], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert re.fullmatch(r"return (\d+) in \1 steps; PyTorch was not loaded\n", done.stdout), done.stderr


@pytest.mark.slow
def test_the_file_of_the_demo_is_played_by_its_own_rules(tmp_path: Path) -> None:
    export_onnx(load("demo", "cpu"), tmp_path / "policy.onnx")
    done = subprocess.run([sys.executable, PLAY_ONNX], cwd=tmp_path, capture_output=True, text=True, check=False)
    found = re.fullmatch(r"return (\d+) in [\d,]+ steps; PyTorch was not loaded\n", done.stdout)
    assert found is not None, done.stderr
    assert int(found[1]) > 10  # its games end at 20; rounding may change one
