"""The whole value network: encoder, optional LSTM and head."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pixelq.networks.base import Encoder
from pixelq.networks.heads import ValueHead, draw_noise, streams_of
from pixelq.networks.lstm import LSTM, LSTMState
from pixelq.networks.streams import Noise


class LastStep(NamedTuple):
    """Action and reward of the previous step, [B], or [T, B] for T steps; ignored where an episode starts.

    Attributes:
        action: int64, the previous action.
        reward: float32, the unclipped reward that followed.
    """

    action: Tensor
    reward: Tensor


class QNetwork(nn.Module):
    """A value network: encoder → (LSTM) → head.

    Without an LSTM, call the network or `q`; with one, use `step` and `unroll`, which take and return its state.

    Args:
        encoder: Maps observations [B, *shape] to features [B, D].
        head: Maps features to values; its `in_features` is the LSTM's `out_features`, or the encoder's without an LSTM.
        lstm: Memory between the two, as in R2D2 (Kapturowski et al. 2019); its `in_features` is the encoder's
            `out_features`, plus the number of actions with `last_action`, plus 1 with `last_reward`.
        last_action: Whether the LSTM also reads the last action, one-hot.
        last_reward: Whether the LSTM also reads the hyperbolic tangent of the last reward.

    Raises:
        ValueError: If `last_action` or `last_reward` is set without an LSTM, or the output size of one part is not the
            input size of the next.
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
            raise ValueError("last_action and last_reward need an LSTM; give one or leave them out")
        streams = streams_of(head)
        # Inputs of the LSTM that are the last action's
        self._last_actions = 0 if lstm is None else lstm.cell.input_size - encoder.out_features - last_reward
        given = encoder.out_features
        if lstm is not None:
            given += last_action * (self._last_actions if streams is None else streams.num_actions) + last_reward
            if lstm.cell.input_size != given:
                raise ValueError(f"in_features of the LSTM must be {given}, got {lstm.cell.input_size}")
            given = lstm.out_features
        if streams is not None and streams.in_features != given:
            raise ValueError(f"in_features of the head must be {given}, got {streams.in_features}")
        self.encoder = encoder
        self.head = head
        self.lstm = lstm
        self.last_action, self.last_reward = last_action, last_reward

    def forward(self, obs: Tensor, noise: Noise | None = None) -> Any:
        """Map observations [B, *shape] to the head's representation of their values.

        Args:
            obs: [B, *shape].
            noise: Noise from `draw_noise`; None for the greedy policy's layers.

        Raises:
            TypeError: If the network has an LSTM, whose state this call cannot pass on.
        """
        if self.lstm is not None:
            raise TypeError("a QNetwork with an LSTM has no stateless forward; call step or unroll")
        return self.head(self.encoder(obs), noise)

    def q(self, obs: Tensor, noise: Noise | None = None) -> Tensor:
        """Map observations [B, *shape] to q-values [B, A]; see `forward`."""
        return self.head.q(self(obs, noise))

    def draw_noise(self, rows: int, generator: torch.Generator | None = None) -> Noise | None:
        """Draw noise for one forward pass, or return None if no layer is noisy.

        Args:
            rows: 1 for noise that the whole batch shares, or the batch size for different noise in each row.
            generator: Source of random numbers; None for PyTorch's global generator.
        """
        return draw_noise(self.head, rows, generator)

    def initial_state(self, batch: int) -> LSTMState:
        """Return the LSTM's state of zeros for `batch` rows: (h [batch, H], c [batch, H])."""
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

        `last` [B] is needed if the network has `last_action` or `last_reward`; see `unroll`.
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

        Time comes first. Encoder and head process all T · B rows as one batch.

        Raises:
            ValueError: If the network has `last_action` or `last_reward` and `last` is missing or not [T, B], the shape
                of `state` or `episode_start` is wrong (see `LSTM.unroll`), or each row has noise of its own.
        """
        if isinstance(noise, Noise) and len(noise.advantage.out.input) > 1:
            raise ValueError("noise must be that of draw_noise(1), which all steps share")
        features, state = self.remember(obs, state, episode_start, last)
        return self.head(features, noise), state

    def remember(
        self, obs: Tensor, state: LSTMState, episode_start: Tensor, last: LastStep | None = None
    ) -> tuple[Tensor, LSTMState]:
        """Return the features [T, B, H] that the head reads at each step, and the last state; see `unroll`."""
        features = self.encoder(obs.flatten(0, 1)).unflatten(0, obs.shape[:2])  # [T, B, D]
        return self._memory().unroll(self._inputs(features, episode_start, last), state, episode_start)

    def _inputs(self, features: Tensor, episode_start: Tensor, last: LastStep | None) -> Tensor:
        """Return features [..., D], followed by the last action and reward if the network reads them."""
        if not (self.last_action or self.last_reward):
            return features
        if last is None:
            raise ValueError("last must be a LastStep for a QNetwork with last_action or last_reward, got None")
        if not last.action.shape == last.reward.shape == features.shape[:-1]:
            raise ValueError(
                f"last.action and last.reward must be {list(features.shape[:-1])}, as the observations are, got "
                f"{list(last.action.shape)} and {list(last.reward.shape)}"
            )
        goes_on, dtype = ~episode_start.unsqueeze(-1), self._memory().dtype
        parts = [features.to(dtype)]
        if self.last_action:
            actions = torch.arange(self._last_actions, device=features.device)
            parts.append(((last.action.unsqueeze(-1) == actions) & goes_on).to(dtype))
        if self.last_reward:
            parts.append((last.reward.tanh().unsqueeze(-1) * goes_on).to(dtype))
        return torch.cat(parts, -1)

    def _memory(self) -> LSTM:
        """Return the LSTM, or raise a TypeError if there is none."""
        if self.lstm is None:
            raise TypeError("a QNetwork without an LSTM has no state; call the network, or q")
        return self.lstm
