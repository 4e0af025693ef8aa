"""The whole value network: encoder, optional LSTM, head."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pixelq.networks.base import Encoder
from pixelq.networks.heads import ValueHead
from pixelq.networks.lstm import LSTM, LSTMState
from pixelq.networks.streams import Noise


class LastStep(NamedTuple):
    """What an LSTM may be told of the step before; [B], or [T, B] for T steps. Ignored where an episode starts."""

    action: Tensor  # int64, the action that led here
    reward: Tensor  # float32, what it brought, raw


class QNetwork(nn.Module):
    """encoder → (LSTM) → head.

    Without an LSTM, call it or `q`; with one, use `step` and `unroll`, which carry its state.

    Args:
        encoder: observations [B, *shape] to features [B, D].
        head: features to values; its `in_features` is the LSTM's `out_features`, or the encoder's without an LSTM.
        lstm: memory between the two, as in R2D2 (Kapturowski et al. 2019); its `in_features` is the encoder's
            `out_features`, plus the number of actions with `last_action`, plus 1 with `last_reward`.
        last_action: the LSTM also reads the last action, one-hot.
        last_reward: the LSTM also reads the hyperbolic tangent of the last reward.

    Raises:
        ValueError: a last action or reward is asked for without an LSTM that could read it, or what one part gives is
            not of the size that the next one reads.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: ValueHead,
        lstm: LSTM | None = None,
        *,
        last_action: bool = False,
        last_reward: bool = False,
    ) -> None:
        super().__init__()
        if lstm is None and (last_action or last_reward):
            raise ValueError("last_action and last_reward are read by an LSTM: give one, or leave them out.")
        given = encoder.out_features
        if lstm is not None:
            given += last_action * head.streams.num_actions + last_reward
            if lstm.cell.input_size != given:
                raise ValueError(f"The LSTM reads {lstm.cell.input_size} numbers, but is given {given}.")
            given = lstm.out_features
        if head.streams.in_features != given:
            raise ValueError(f"The head reads {head.streams.in_features} numbers, but is given {given}.")
        self.encoder = encoder
        self.head = head
        self.lstm = lstm
        self.last_action, self.last_reward = last_action, last_reward

    def forward(self, obs: Tensor, noise: Noise | None = None) -> Any:
        """Map observations [B, *shape] to the head's representation of their values; noise is `draw_noise`'s.

        Raises:
            TypeError: the network has an LSTM, whose state this call could not carry.
        """
        if self.lstm is not None:
            raise TypeError("A QNetwork with an LSTM has no stateless forward: call step or unroll.")
        return self.head(self.encoder(obs), noise)

    def q(self, obs: Tensor, noise: Noise | None = None) -> Tensor:
        """Map observations [B, *shape] to q-values [B, A]; see `forward`."""
        return self.head.q(self(obs, noise))

    def draw_noise(self, rows: int, generator: torch.Generator | None = None) -> Noise | None:
        """Draw noise for one forward pass: 1 row that the batch shares, or a row for each of its rows.

        None where no layer is noisy.
        """
        return self.head.streams.draw_noise(rows, generator)

    def initial_state(self, batch: int) -> LSTMState:
        """Return the LSTM's zero state for `batch` rows: (h [B, H], c [B, H])."""
        return self._memory().initial_state(batch)

    def step(
        self,
        obs: Tensor,
        state: LSTMState,
        episode_start: Tensor,
        last: LastStep | None = None,
        noise: Noise | None = None,
    ) -> tuple[Any, LSTMState]:
        """Map obs [B, *shape], the state and episode_start [B] bool to the head's values and the new state.

        `last` [B] is needed where the network reads it; see `unroll`.
        """
        inputs = self._inputs(self.encoder(obs), episode_start, last)
        features, state = self._memory().step(inputs, state, episode_start)  # [B, H]
        return self.head(features, noise), state

    def unroll(
        self,
        obs: Tensor,
        state: LSTMState,
        episode_start: Tensor,
        last: LastStep | None = None,
        noise: Noise | None = None,
    ) -> tuple[Any, LSTMState]:
        """Map obs [T, B, *shape], the first state and episode_start [T, B] bool to values [T, B, …] and the last state.

        Time comes first. Encoder and head see all T · B rows as one batch.

        Raises:
            ValueError: the network reads the last action or reward, and `last` [T, B] is not given or of another
                shape; or state or episode_start are, see `LSTM.unroll`.
        """
        features, state = self.remember(obs, state, episode_start, last)
        return self.head(features, noise), state

    def remember(
        self, obs: Tensor, state: LSTMState, episode_start: Tensor, last: LastStep | None = None
    ) -> tuple[Tensor, LSTMState]:
        """Return what the head is given at each step, features [T, B, H], and the last state; see `unroll`."""
        features = self.encoder(obs.flatten(0, 1)).unflatten(0, obs.shape[:2])  # [T, B, D]
        return self._memory().unroll(self._inputs(features, episode_start, last), state, episode_start)

    def _inputs(self, features: Tensor, episode_start: Tensor, last: LastStep | None) -> Tensor:
        """Features [..., D] and, where the network reads them, last action and reward."""
        if not (self.last_action or self.last_reward):
            return features
        if last is None:
            raise ValueError("This QNetwork reads the last action or reward; give last=LastStep(action, reward).")
        if not last.action.shape == last.reward.shape == features.shape[:-1]:
            raise ValueError(
                f"last is {list(last.action.shape)} and {list(last.reward.shape)}; it must be "
                f"{list(features.shape[:-1])}, as the observations are."
            )
        goes_on, dtype = ~episode_start.unsqueeze(-1), self._memory().dtype
        parts = [features.to(dtype)]
        if self.last_action:
            actions = torch.arange(self.head.streams.num_actions, device=features.device)
            parts.append(((last.action.unsqueeze(-1) == actions) & goes_on).to(dtype))
        if self.last_reward:
            parts.append((last.reward.tanh().unsqueeze(-1) * goes_on).to(dtype))
        return torch.cat(parts, -1)

    def _memory(self) -> LSTM:
        if self.lstm is None:
            raise TypeError("A QNetwork without an LSTM has no state: call it, or q.")
        return self.lstm
