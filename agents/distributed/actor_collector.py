"""The collector of a training with actors: it writes the rows that they send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from pixelq.agents.agent import Agent
from pixelq.agents.distributed.block import Views
from pixelq.agents.distributed.team import Round, Team
from pixelq.agents.evaluation.evaluate import check_masks
from pixelq.agents.experience.store import Store
from pixelq.agents.training.collector import Collector, Restarts
from pixelq.agents.training.interval import Interval, State
from pixelq.envs.plays import note_play
from pixelq.networks import LSTMState


class ActorCollector(Collector):
    """Writes what actors play into the replay or rollout, one time step of all environments after another.

    To the loop this is a collector like any other: one call of `act` and one of `receive` are a step of all
    environments, so updates, records and evaluations come after the same numbers of steps.

    Args:
        agent, envs, replay, interval, restarts: See `Collector`.
        make_team: Returns the actors.
    """

    columns = ("samples_per_insert", "blocks_in_flight", "weights_lag", "actor_restarts")

    def __init__(
        self,
        agent: Agent,
        envs: VectorEnv,
        replay: Store,
        interval: Interval,
        restarts: Restarts,
        make_team: Callable[[], Team],
    ) -> None:
        super().__init__(agent, envs, replay, interval, restarts)
        self._make_team = make_team
        self.team: Team | None = None
        self._round: Round | None = None
        self._at = 0  # row of the round that is completed next
        self._origin = 0  # time step from which the LSTM's states are counted
        self._view: tuple[NDArray[np.float32] | None, LSTMState | None] = (None, None)

    def start(self) -> None:
        """Start the actors. The episodes of another training are cut off.

        Raises:
            RunFailed, InvalidConfig, InvalidEnv, EnvironmentFailed: What the actors raise; see `Team.begin`.
        """
        note_play(self.envs)
        if self.obs is not None:
            self.restart_episodes(cut=True)
        self._origin = self.replay.time if self.agent.wants_values else 0  # a PQN's are those before each rollout
        self._round = None
        self.team = self._make_team()
        shown = self.team.begin()
        if shown is None:
            return
        self._show(shown, 0, None)
        check_masks(self.agent, self.masks)
        if self.masks is not None:
            self.replay.keep_masks(self.agent.num_actions)
            self.agent.action_masks = True

    def _show(self, views: Views, row: int, state: LSTMState | None) -> None:
        """Let the next `act` write what a row of a block shows."""
        frames = views.frames[row]
        self.obs = frames[:, None] if self.replay.frame_stack > 1 else frames  # a stack's newest frame is enough
        self.masks = None if views.mask is None else views.mask[row]
        self._view = (None if views.value is None else views.value[row], state)

    def act(self) -> None:
        """Write what the environments show."""
        assert self.obs is not None
        value, state = self._view
        self.replay.observe(self.obs, state, self.masks)
        if value is not None:
            self.agent.keep_values(self.replay.latest(), torch.from_numpy(value[:, None]).to(self.agent.device))
        self.agent.step += int((~self.episodes.done).sum())

    def receive(self) -> None:
        """Write the outcome of the step, from the next round of blocks where the last one is used up.

        Raises:
            RunFailed, UserError, InvalidEnv, EnvironmentFailed: What the actors raise; see `Team.round`.
        """
        assert self.team is not None
        if self._round is None or self._at == self.team.steps:
            self._round, self._at = self.team.round(self.replay.time - self._origin), 0
            self.failure = self.team.failure
            if self._round.absent.any():  # the steps that have just begun are lost with their actors
                self.replay.abandon(self._round.absent)
        played, row = self._round, self._at
        self._at += 1
        action, reward, terminated, truncated, life_lost = (field[row] for field in played.outcomes)
        self.replay.complete(action, reward, terminated, truncated, life_lost if life_lost.any() else None)
        ended = self.episodes.step(reward, (terminated | truncated) & ~played.absent)
        if played.absent.any():
            self.episodes.leave_out(played.absent, truncated)
        self.agent.episodes += len(ended)
        self.interval.episodes += ended
        self._show(played.views, row, self._state_of(played, row))

    def _state_of(self, played: Round, row: int) -> LSTMState | None:
        """Return the LSTM's states before a view; None where they are not stored."""
        if row not in played.states or played.views.states is None:
            return None
        hidden, cell = torch.tensor(played.views.states[played.states.index(row)], device=self.agent.device)
        return hidden, cell

    def stop(self) -> None:
        """End the actors after an error, and all episodes."""
        try:
            super().stop()
        finally:
            self.end()

    def end(self) -> None:
        """End the actors: the next training starts others, with new episodes."""
        if self.team is not None:
            self.team.stop()

    def metrics(self) -> dict[str, float]:
        """Return the ratio of samples to rows, blocks in flight, the age of the weights in steps, and deaths."""
        agent, interval, team = self.agent, self.interval, self.team
        assert team is not None
        config, steps = agent.config, max(1, agent.step - interval.step)
        samples = config.batch_size
        if config.algorithm == "pqn":
            samples = config.rollout_length * self.envs.num_envs // config.minibatches
        return {
            "samples_per_insert": len(interval.losses) * samples / steps,
            "blocks_in_flight": team.in_flight,
            "weights_lag": 0 if self._round is None else agent.step - self._round.step,
            "actor_restarts": team.deaths,
        }

    def standing(self) -> State:
        """See `Collector`; what is shown is the newest frames."""
        space, obs, masks = self.agent.observation_space, self.obs, self.masks
        whole = np.zeros((self.envs.num_envs, *space.shape), space.dtype)
        if obs is not None and self.replay.frame_stack > 1:
            whole[:, -1] = obs[:, -1]
        elif obs is not None:
            whole[:] = obs
        if masks is None and self.agent.action_masks:
            self.masks = np.ones((self.envs.num_envs, self.agent.num_actions), dtype=bool)
        self.obs = whole
        try:
            return super().standing()
        finally:
            self.obs, self.masks = obs, masks

    def restore_envs(self, standing: NDArray[Any] | None = None) -> str | None:
        """Return why the environments cannot be restored."""
        return "new episodes: the games under way were lost with their actors"

    def restart_episodes(self, *, cut: bool) -> None:
        """See `Collector`; the episodes start with the actors."""
        if cut:
            assert self.obs is not None
            self.replay.cut(self.obs, self.masks)
        self.episodes.cut()
        self.obs = self.masks = None
