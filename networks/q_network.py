"""The whole value network: encoder, optional LSTM, head."""

from typing import Any

import torch
from torch import Tensor, nn

from pixelq.networks.base import Encoder
from pixelq.networks.heads import ValueHead
from pixelq.networks.lstm import LSTM, LSTMState
from pixelq.networks.streams import Noise


class QNetwork(nn.Module):
    """encoder → (LSTM) → head.

    Without an LSTM, call it or `q`; with one, use `step` and `unroll`, which carry its state.

    Args:
        encoder: observations [B, *shape] to features [B, D].
        head: features to values; its `in_features` is the LSTM's `out_features`, or the encoder's without an LSTM.
        lstm: memory between the two, as in R2D2 (Kapturowski et al. 2019).
    """

    def __init__(self, encoder: Encoder, head: ValueHead, lstm: LSTM | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.lstm = lstm

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

    def step(self, obs: Tensor, state: LSTMState, episode_start: Tensor) -> tuple[Any, LSTMState]:
        """Map obs [B, *shape], the state and episode_start [B] bool to the head's values and the new state."""
        features, state = self._memory().step(self.encoder(obs), state, episode_start)  # [B, H]
        return self.head(features), state

    def unroll(self, obs: Tensor, state: LSTMState, episode_start: Tensor) -> tuple[Any, LSTMState]:
        """Map obs [T, B, *shape], the first state and episode_start [T, B] bool to values [T, B, …] and the last state.

        Time comes first. Encoder and head see all T · B rows as one batch.
        """
        features = self.encoder(obs.flatten(0, 1)).unflatten(0, obs.shape[:2])  # [T, B, D]
        features, state = self._memory().unroll(features, state, episode_start)  # [T, B, H]
        return self.head(features), state

    def _memory(self) -> LSTM:
        if self.lstm is None:
            raise TypeError("A QNetwork without an LSTM has no state: call it, or q.")
        return self.lstm
