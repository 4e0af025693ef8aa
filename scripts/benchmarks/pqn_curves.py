"""Learning curves of our PQN beside those of CleanRL's program, at equal settings.

`python -m pixelq.scripts.benchmarks.pqn_curves FILE --env CartPole-v1 --out DIR` runs CleanRL's `pqn.py`, which must be
at FILE, and our `PQN`, one seed after another and with one thread, and prints a table in Markdown. Runs whose file in
DIR exists are not run again.

What is changed in the program: environments are made by the function of this file on both sides, with the autoreset of
gymnasium 0.29, for which it is written; nothing is logged; in MinAtar the network is MinAtar's, with layer norm after
the convolution, and the settings are `MINATAR`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from pixelq.agents import PQN, AgentConfig
from pixelq.envs import make_vec
from pixelq.networks import MLP

SIDES = ("CleanRL", "pixelq")
EPISODES = 30
"""Greedy episodes after a training."""
PARTS = ((0.2, 0.3), (0.45, 0.55), (0.9, 1.0))
"""Shares of a training of which the mean return is shown."""
MINATAR = (
    "--num-envs 16 --num-steps 32 --num-minibatches 8 --update-epochs 2 --learning-rate 5e-4 --end-e 0.05 "
    "--exploration-fraction 0.1"
)
"""Settings of the program in MinAtar."""
NETWORK = """class QNetwork(nn.Module):
    def __init__(self, env):
        super().__init__()
        self.conv = layer_init(nn.Conv2d(env.single_observation_space.shape[0], 16, 3))
        self.norm = nn.LayerNorm(16, eps=1e-6)
        self.rest = nn.Sequential(
            layer_init(nn.Linear(1024, 128)), nn.LayerNorm(128, eps=1e-6), nn.ReLU(),
            layer_init(nn.Linear(128, env.single_action_space.n)),
        )

    def forward(self, x):
        x = self.norm(self.conv(x).movedim(1, -1)).movedim(-1, 1).relu()
        return self.rest(x.flatten(1))


"""
"""MinAtar's network in place of the program's."""


class Recorded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment that notes the step and return of each episode in a list, over all that share it."""

    def __init__(self, env: gymnasium.Env[Any, Any], episodes: list[tuple[int, float]], count: list[int]) -> None:
        super().__init__(env)
        self.episodes, self.count, self.total = episodes, count, 0.0

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """See `gymnasium.Env`."""
        self.total = 0.0
        return self.env.reset(**options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env`."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.count[0] += 1
        self.total += float(reward)
        if terminated or truncated:
            self.episodes.append((self.count[0], self.total))
        return obs, reward, terminated, truncated, info


class Planes(gymnasium.ObservationWrapper[Any, Any, Any]):
    """MinAtar's cells as float32 [C, 10, 10]."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        height, width, channels = env.observation_space.shape or (10, 10, 1)
        self.observation_space = gymnasium.spaces.Box(0, 1, (channels, height, width), np.float32)

    def observation(self, observation: Any) -> NDArray[np.float32]:
        """See `gymnasium.ObservationWrapper`."""
        return np.ascontiguousarray(np.moveaxis(np.asarray(observation, np.float32), -1, 0))


_make = gymnasium.make


def game(env: str) -> gymnasium.Env[Any, Any]:
    """Return the environment of both sides."""
    if not env.startswith("MinAtar/"):
        return _make(env)
    if env not in gymnasium.registry:
        importlib.import_module("minatar.gym").register_envs()  # an extra
    return Planes(_make(env, disable_env_checker=True))


def greedy(q_values: Callable[[Any], Any], env: str, seed: int) -> list[float]:
    """Return the returns of greedy episodes of at most 10,000 steps."""
    envs, returns = game(env), []
    for episode in range(EPISODES):
        obs, _ = envs.reset(seed=1000 * seed + episode)
        total = 0.0
        for _ in range(10_000):
            obs, reward, terminated, truncated, _ = envs.step(int(np.argmax(q_values(obs))))
            total += float(reward)
            if terminated or truncated:
                break
        returns.append(total)
    return returns


def ours(env: str, seed: int, steps: int) -> dict[str, Any]:
    """Train our agent with the program's settings; return the episodes and the greedy ones."""
    episodes: list[tuple[int, float]] = []
    count = [0]
    is_minatar = env.startswith("MinAtar/")
    own: dict[str, Any] = {"rollout_length": 128, "minibatches": 4, "epochs": 4, "learning_rate": 2.5e-4}
    own |= {"epsilon_steps": steps // 2, "hidden": 84, "layer_norm": True}
    if is_minatar:
        own = {"rollout_length": 32, "minibatches": 8, "epochs": 2, "learning_rate": 5e-4}
        own |= {"epsilon_steps": steps // 10, "encoder": "minatar", "hidden": 128, "channel_norm": True}
    config = AgentConfig(
        algorithm="pqn",
        td_lambda=0.65,
        loss="squared",
        optimizer="radam",
        adam_epsilon=1e-8,
        max_grad_norm=10.0,
        learning_rate_end=0.0,
        learning_rate_steps=steps,
        learning_starts=1,
        epsilon_end=0.05,
        reward_clip=None,
        frame_stack=1,
        initialization="orthogonal",
        **own,
    )
    envs = make_vec(lambda: Recorded(game(env), episodes, count), 16 if is_minatar else 4, seed=seed)
    torch.manual_seed(seed)  # of the encoder
    encoder = None if is_minatar else MLP(4, (120,), init="orthogonal", layer_norm=True)
    agent = PQN(envs.single_observation_space, envs.single_action_space, config, seed=seed, encoder=encoder)
    agent.learn(envs, steps)
    return {"episodes": episodes, "greedy": greedy(lambda obs: agent.q_values(np.asarray(obs)[None])[0], env, seed)}


def prepare(env: str, seed: int, steps: int, out: str) -> Callable[[Any], None]:
    """Change what CleanRL's program uses in this process; return what writes its run to `out`, given its network.

    The program as it is changed calls it first, and what it returns at the end.
    """
    episodes: list[tuple[int, float]] = []
    count = [0]

    class SameStep(SyncVectorEnv):
        def __init__(self, makers: Any) -> None:
            super().__init__(makers, autoreset_mode=AutoresetMode.SAME_STEP)

        def step(self, actions: Any) -> Any:
            return *super().step(actions)[:4], {}

    board = types.ModuleType("torch.utils.tensorboard")
    board.SummaryWriter = lambda *_: types.SimpleNamespace(  # type: ignore[attr-defined]
        add_text=lambda *_: None, add_scalar=lambda *_: None, close=lambda: None
    )
    sys.modules["torch.utils.tensorboard"] = board
    sys.argv[1:] = ["--env-id", env, "--seed", str(seed), "--total-timesteps", str(steps), "--no-cuda"]
    sys.argv += MINATAR.split() if env.startswith("MinAtar/") else []
    gymnasium.vector.SyncVectorEnv = SameStep  # type: ignore[misc,assignment]
    gymnasium.make = lambda *_, **__: Recorded(game(env), episodes, count)
    gymnasium.wrappers.RecordEpisodeStatistics = lambda env: env  # type: ignore[misc,assignment]
    torch.set_num_threads(1)

    def write(network: Any) -> None:
        with torch.no_grad():
            returns = greedy(lambda obs: network(torch.as_tensor(obs)[None]).numpy()[0], env, seed)
        Path(out).write_text(json.dumps({"episodes": episodes, "greedy": returns}))

    return write


def theirs(program: Path, env: str, seed: int, steps: int, out: Path) -> None:
    """Run CleanRL's program in a process of its own, which writes its episodes and the greedy ones to `out`."""
    source = program.read_text()
    if env.startswith("MinAtar/"):
        source, found = re.subn(r"class QNetwork.*?(?=def linear_schedule)", lambda _: NETWORK, source, flags=re.DOTALL)
        assert found == 1, "the program has another network than the one that is replaced"
    source = source.replace("print(", "(lambda *_: None)(")
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / "pqn.py"
        begin = "from pixelq.scripts.benchmarks.pqn_curves import prepare"
        arguments = ", ".join(map(repr, (env, seed, steps, str(out.resolve()))))
        changed.write_text(f"{begin}\nwrite = prepare({arguments})\n{source}\n    write(q_network)\n")
        subprocess.run([sys.executable, str(changed)], check=True)


def figures(run: dict[str, Any], steps: int) -> list[float]:
    """Return the mean returns of the parts of a training, and of the greedy episodes."""
    when, returns = np.array(run["episodes"]).T
    parts = [returns[(when > low * steps) & (when <= high * steps + (high == 1) * steps)].mean() for low, high in PARTS]
    return [*map(float, parts), float(np.mean(run["greedy"]))]


def table(runs: dict[str, list[list[float]]]) -> str:
    """Return the table in Markdown: mean ± standard error over seeds of each figure, by side."""
    lines = ["| | seeds | after a quarter | after a half | at the end | greedy |", "| --- " * 6 + "|"]
    for side, each in runs.items():
        values = np.array(each)
        errors = values.std(0, ddof=1) / len(values) ** 0.5
        cells = [f"{mean:.1f} ± {error:.1f}" for mean, error in zip(values.mean(0), errors, strict=True)]
        lines.append(f"| {side} | {len(values)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=Path, help="CleanRL's pqn.py")
    parser.add_argument("--env", default="CartPole-v1", help="CartPole-v1 or MinAtar/GAME-v1")
    parser.add_argument("--steps", type=int, default=100_000, help="steps of each training")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, at least 2")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs' files")
    args = parser.parse_args(arguments)
    if args.seeds < 2:
        parser.error(f"--seeds must be at least 2, for the errors over seeds, got {args.seeds}")

    def path(side: str, seed: int) -> Path:
        return Path(args.out / f"{args.env.replace('/', '-')}-{side}-{seed}.json")

    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    runs: dict[str, list[list[float]]] = {side: [] for side in SIDES}
    for seed in range(1, args.seeds + 1):
        for side in SIDES:
            if path(side, seed).exists():
                pass
            elif side == "pixelq":
                path(side, seed).write_text(json.dumps(ours(args.env, seed, args.steps)))
            else:
                theirs(args.program, args.env, seed, args.steps, path(side, seed))
            runs[side].append(figures(json.loads(path(side, seed).read_text()), args.steps))
    print(table(runs))


if __name__ == "__main__":
    main()
