"""Who `pixelq benchmark` measures: a table of entries, and the process in which each of them runs.

Imports are inside the classes, so that no entry's memory holds another's libraries.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from pixelq.scripts.benchmarks.peer_cleanrl import CleanRL
from pixelq.scripts.benchmarks.peer_tianshou import Tianshou
from pixelq.scripts.benchmarks.work import Trainer, Work, update_ratio

WARM_UP_STEPS = 64
"""Steps after the replay is full, before any are timed: what a library sets up at its first update lies in them."""
WARM_UP_SHARE = 0.1
"""A turn starts with this share of its time unmeasured: caches and threads wake from the other entry's turn."""


class Pixelq:
    """Our agent on our environments."""

    def __init__(self, work: Work, device: str) -> None:
        from pixelq.agents import DQN, AgentConfig
        from pixelq.envs import make_vec

        self.envs = make_vec(work.env, work.num_envs, work.seed, work.protocol)
        own = ("env", "num_envs", "protocol", "network", "epsilon", "seed")  # the others bear the agent's names
        config = {name: value for name, value in vars(work).items() if name not in own} | {
            "encoder": work.network,
            "learning_starts": work.replay_capacity,
            "epsilon_start": 1.0,
            "epsilon_end": work.epsilon,
            "epsilon_steps": 1,
        }
        spaces = self.envs.single_observation_space, self.envs.single_action_space
        self.agent = DQN(*spaces, AgentConfig.from_dict(config), device=device, seed=work.seed)

    def learn(self, steps: int) -> None:
        """Trains without a run's folder, so that nothing is written; every call starts new games."""
        self.agent.learn(self.envs, steps)

    def counts(self) -> tuple[int, int]:
        """Steps and updates."""
        return self.agent.step, self.agent.updates


class StableBaselines3:
    """stable-baselines3's DQN on its own Atari environments, one after another in one process, as its users run it."""

    def __init__(self, work: Work, device: str) -> None:
        import ale_py  # noqa: F401  # registers the games
        from stable_baselines3 import DQN
        from stable_baselines3.common.env_util import make_atari_env
        from stable_baselines3.common.vec_env import VecFrameStack

        # AtariWrapper skips frames itself, and by default plays by the protocol "nature".
        rules = {"frameskip": 1, "repeat_action_probability": 0.0}
        envs = make_atari_env(work.env, work.num_envs, seed=work.seed, env_kwargs=rules)
        train_freq, gradient_steps = update_ratio(work.num_envs, work.train_every)
        self.model = DQN(  # network, n_step, loss, optimiser and its ε, and precision are its defaults
            "CnnPolicy",
            VecFrameStack(envs, 4),
            learning_rate=work.learning_rate,
            buffer_size=work.replay_capacity,
            learning_starts=work.replay_capacity,
            batch_size=work.batch_size,
            gamma=work.gamma,
            train_freq=(train_freq, "step"),
            gradient_steps=gradient_steps,
            target_update_interval=work.target_update_every,
            exploration_initial_eps=work.epsilon,
            exploration_final_eps=work.epsilon,
            max_grad_norm=work.max_grad_norm,
            seed=work.seed,
            device=device,
        )

    def learn(self, steps: int) -> None:
        """Trains on from where the games are."""
        self.model.learn(steps, log_interval=sys.maxsize, reset_num_timesteps=False)

    def counts(self) -> tuple[int, int]:
        """Steps and updates."""
        return self.model.num_timesteps, self.model._n_updates


EXTRA = "'pixelq[benchmark]'"


class Entry(NamedTuple):
    """A library to measure."""

    make: Callable[[Work, str], Trainer]
    """Makes its agent and environments, on the device ``cpu`` or ``cuda``."""
    distribution: str | None
    """Its name in the package index, for the version; None for what is no package."""
    needs: Mapping[str, str] = {}
    """Modules that our package does not depend on, and what `pip install` is given for them."""
    label: str = ""
    """What stands in place of a version where there is no distribution."""

    def version(self) -> str:
        """The installed version, or the label."""
        return self.label if self.distribution is None else version(self.distribution)


def pixelq_bfloat16(work: Work, device: str) -> Trainer:
    """Our agent with the products of an update in bfloat16."""
    return Pixelq(replace(work, precision="bfloat16"), device)


OURS, OURS_BFLOAT16 = "pixelq", "pixelq-bfloat16"
PEERS = {
    "sb3": Entry(StableBaselines3, "stable-baselines3", {"cv2": EXTRA}),
    "cleanrl": Entry(CleanRL, None, {"cv2": EXTRA}, "our writing"),
    "tianshou": Entry(Tianshou, "tianshou", {"tianshou": "tianshou", "cv2": EXTRA}),
}
OWN = {OURS: Entry(Pixelq, "pixelq"), OURS_BFLOAT16: Entry(pixelq_bfloat16, "pixelq")}
ENTRIES = {**OWN, **PEERS}


class Turn(NamedTuple):
    """What was measured in a turn."""

    steps: int
    updates: int
    seconds: float
    peak_memory_mib: float
    """Of the process up to now, with everything it has loaded."""
    peak_device_memory_mib: float | None
    """What PyTorch has reserved on the GPU at most, where there is one."""


def serve(connection: Connection, name: str, work: Work, device: str) -> None:
    """The life of an entry's process: warm up, say so, then take a turn for every number of seconds received.

    For None received, one of our entries tells the milliseconds of a step's parts.
    """
    import torch

    os.dup2(2, 1)  # stdout is the parent's alone
    try:
        trainer = ENTRIES[name].make(work, device)
        trainer.learn(work.replay_capacity + WARM_UP_STEPS)
        turn = _measure(trainer, WARM_UP_STEPS, device)
        connection.send(turn)
        while True:
            seconds: float | None = connection.recv()
            if seconds is None:  # a turn like the last, part by part
                from pixelq.scripts.benchmarks.step_cost import milliseconds_per_step

                connection.send(milliseconds_per_step(trainer.learn, turn.steps, torch.device(device)))
                continue
            for share in (WARM_UP_SHARE, 1.0):
                turn = _measure(trainer, _steps_in(share * seconds, turn, work), device)
            connection.send(turn)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # nobody waits any more


def _steps_in(seconds: float, last: Turn, work: Work) -> int:
    """Steps that take about so long at the last turn's speed, and call for a whole number of updates."""
    block = work.num_envs * work.train_every
    return block * max(1, round(seconds * last.steps / last.seconds / block))


def _measure(trainer: Trainer, steps: int, device: str) -> Turn:
    import torch

    steps_before, updates_before = trainer.counts()
    start = time.perf_counter()
    trainer.learn(steps)
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    steps_after, updates_after = trainer.counts()
    on_device = torch.cuda.max_memory_reserved() / 2**20 if device == "cuda" else None
    return Turn(steps_after - steps_before, updates_after - updates_before, seconds, _peak_memory_mib(), on_device)


def _peak_memory_mib() -> float:
    """The process's largest resident memory."""
    if sys.platform == "linux":  # where ru_maxrss would start from the parent's, which spawned this process
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    else:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes
