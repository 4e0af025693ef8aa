"""Parts of the loop of one of several learners: its collector, and its part in the run's checkpoints."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from pixelq.agents.agent import Agent
from pixelq.agents.errors import InvalidCheckpoint, InvalidConfig
from pixelq.agents.experience.replay import Replay
from pixelq.agents.experience.rollout import Rollout
from pixelq.agents.experience.samplers import PrioritizedSampler
from pixelq.agents.experience.store import Store
from pixelq.agents.runs.checkpoints import RunCheckpoints
from pixelq.agents.storage.checkpoint import Checkpoint, run_files
from pixelq.agents.storage.checkpoint_files import RunFiles
from pixelq.agents.storage.files import tidy_files
from pixelq.agents.storage.pointers import step_folders
from pixelq.agents.storage.validation import restore_generator
from pixelq.agents.training.collector import Collector, Restarts
from pixelq.agents.training.interval import Interval, State
from pixelq.agents.training.ranks import LEARNERS, Ranks
from pixelq.envs import EnvironmentFailed


def join(agent: Agent, ranks: Ranks, numbers: Sequence[int]) -> None:
    """Let an agent learn with the others.

    Args:
        agent: The agent.
        ranks: The learners.
        numbers: What must be the same for all, as it decides when they communicate.

    Raises:
        InvalidConfig: If it is on another device, cannot have a share of the batches, or the others have another
            configuration, seed, weights or numbers.
    """
    settings = zlib.crc32(json.dumps(agent.config.to_dict(), sort_keys=True).encode())
    weights = 0
    for tensor in agent.network.state_dict().values():
        weights = zlib.crc32(tensor.cpu().reshape(-1).view(torch.uint8).numpy(), weights)
    found = ranks.table(settings, weights, agent.seed, agent.step, agent.updates, *numbers)
    if (found != found[0]).any():
        raise InvalidConfig("all learners must have the same configuration, seed, weights, environments and steps")
    if agent.device not in (ranks.device, torch.device(ranks.device.type)):  # which is the current one of its kind
        raise InvalidConfig(f"device must be {ranks.device} for this learner, got {agent.device}")
    agent.join(ranks.rank, ranks.size)
    agent.learner.reduce = ranks.sum


def leave(agent: Agent) -> None:
    """Let an agent hold on to nothing of the others between two trainings."""
    agent.learner.reduce = None
    if isinstance(agent.replay, Replay) and isinstance(agent.replay.sampler, PrioritizedSampler):
        agent.replay.sampler.least = None


class RankRestarts(Restarts):
    """Restarts of a learner's environments; none for rollouts, which would then end at other steps than others do."""

    def note(self, error: EnvironmentFailed, *, is_able: bool = True) -> None:
        """See `Restarts`."""
        super().note(error, is_able=is_able and self.agent.config.algorithm != "pqn")


class RankCollector(Collector):
    """Steps the environments of one learner, at the same time as the others step theirs.

    Steps and episodes of the agent are those of all learners. After each step the learners exchange a few numbers: how
    many steps the next one will be, how many episodes have ended, and whether a signal asks them to stop. So all take
    the same decisions at the same step.

    Args:
        agent, envs, replay, interval, restarts: See `Collector`.
        ranks: The learners.

    """

    def __init__(
        self, agent: Agent, envs: VectorEnv, replay: Store, interval: Interval, restarts: Restarts, ranks: Ranks
    ) -> None:
        super().__init__(agent, envs, replay, interval, restarts)
        self.ranks, self._config = ranks, agent.config
        self._steps = self._restarts = self._rows = 0
        if isinstance(replay, Replay) and isinstance(replay.sampler, PrioritizedSampler):
            replay.sampler.least = ranks.least

    def start(self) -> None:
        """See `Collector`; all learners begin together."""
        super().start()
        self._meet(0)

    def act(self) -> None:
        """See `Collector`.

        Raises:
            InvalidConfig: If a callback has changed the agent's settings, which the other learners do not know of.
        """
        agent, before = self.agent, self.agent.step
        if agent.config is not self._config:
            raise InvalidConfig("callbacks must leave the agent's settings as they are where several learners train")
        super().act()
        agent.step = before + self._steps

    def receive(self) -> None:
        """See `Collector`; returns when all learners have taken the step."""
        agent, before = self.agent, self.agent.episodes
        super().receive()
        agent.episodes = before + self._meet(agent.episodes - before)

    def _meet(self, ended: int) -> int:
        """Meet the other learners after a step in which some episodes have ended here; return how many have in all."""
        rows = len(self.replay) if isinstance(self.replay, Replay) else 0
        found = self.ranks.meet(int((~self.episodes.done).sum()), ended, self.restarts.count, rows)
        self._steps, total, self._restarts, _ = found.sum(0).tolist()
        self._rows = int(found[:, 3].min())
        return int(total)

    def least_rows(self) -> int:
        """Return the least number of transitions or sequences that a learner can draw from, before the present step."""
        return self._rows

    def restart_episodes(self, *, cut: bool) -> None:
        """See `Collector`; not for rollouts, which would then end at other steps than those of other learners.

        Raises:
            InvalidCheckpoint: If there is a rollout.
        """
        if isinstance(self.replay, Rollout):
            raise InvalidCheckpoint(
                "the environments of a learner do not continue as before, and rollouts of several learners must end "
                "together; start another run"
            )
        super().restart_episodes(cut=cut)

    def metrics(self) -> dict[str, float]:
        """Return the restarts of all learners."""
        return {"restarts": self._restarts}

    def standing(self) -> State:
        """See `Collector`; with this learner's generators, of which the agent's checkpoint has those of the first."""
        values, arrays = super().standing()
        if self.ranks.rank > 0:
            values["rng"] = self.agent.rng.bit_generator.state
            arrays["own.noise"] = self.agent.noise.get_state()
            arrays["own.learner"] = self.agent.learner.generator.get_state()
        return values, arrays

    def load_state(self, values: dict[str, Any], arrays: dict[str, Tensor]) -> None:
        """See `Collector`."""
        super().load_state(values, arrays)
        if self.ranks.rank > 0:
            self.agent.rng.bit_generator.state = values["rng"]
            restore_generator(self.agent.noise, arrays, "own.noise")
            restore_generator(self.agent.learner.generator, arrays, "own.learner")


class RankCheckpoints(RunCheckpoints):
    """Checkpoints of several learners: the first one writes them, with what the others send of their share.

    The blocks of its replay each learner writes itself, to a folder of its own beside the checkpoints.

    Args:
        folder, replay, keep: See `RunCheckpoints`.
        ranks: The learners.
    """

    def __init__(self, folder: Path, replay: Store, keep: int, ranks: Ranks) -> None:
        super().__init__(folder, replay, keep, RunFiles.of(ranks.rank))
        self.ranks = ranks
        if ranks.rank > 0:  # the first one's are tidied up with the run's folder
            tidy_files(self.files.folder)

    def write(self, step: int, checkpoint: Checkpoint, state: dict[str, Any], arrays: dict[str, Tensor]) -> None:
        """See `RunCheckpoints`; all learners call this, and return when the checkpoint is there."""
        ranks = self.ranks
        run = self.run_state({LEARNERS: ranks.size} | state, arrays)
        found = [ranks.gather(data) for data in run_files(run, self.names).values()]
        blocks = ranks.gather_values(run.blocks)
        if ranks.rank == 0:
            for rank in range(1, ranks.size):
                names = RunFiles.of(rank)
                run.others |= dict(zip((names.run, names.arrays, names.rows), (f[rank] for f in found), strict=True))
                run.blocks |= blocks[rank]
            checkpoint.run = run
            self.add(step, checkpoint)
        ranks.wait()
        if ranks.rank > 0:
            self.files.remove_unneeded(step_folders(self.folder)[-self.keep :])

    def read(self, step: int) -> tuple[dict[str, Any], dict[str, Tensor], str | None]:
        """See `RunCheckpoints`.

        Raises:
            InvalidCheckpoint: Also if the replay is lost: the learners would fill it again at different speeds.
        """
        state, arrays, lost = super().read(step)
        if lost is not None:
            raise InvalidCheckpoint(f"{lost}; several learners cannot continue with an empty replay; start another run")
        return state, arrays, None
