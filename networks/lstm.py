"""Long short-term memory that knows where episodes start."""

import torch
from torch import Tensor, nn

LSTMState = tuple[Tensor, Tensor]


class LSTM(nn.Module):
    """One LSTM layer (Hochreiter & Schmidhuber 1997; gates as in `torch.nn.LSTM`), zeroed where an episode starts.

    The state is a tuple (h [B, H], c [B, H]). Initialisation is PyTorch's, uniform in ±1/√H.

    Args:
        in_features: D.
        hidden: H, also `out_features`.
    """

    def __init__(self, in_features: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.LSTM(in_features, hidden)
        self.out_features = hidden

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> LSTMState:
        """Return zeros (h [batch, H], c [batch, H]), on the weights' device unless another is named."""
        weight = next(self.cell.parameters())
        zeros = torch.zeros(batch, self.out_features, device=device or weight.device, dtype=weight.dtype)
        return zeros, zeros.clone()

    def step(self, x: Tensor, state: LSTMState, episode_start: Tensor) -> tuple[Tensor, LSTMState]:
        """Advance one step: x [B, D], episode_start [B] bool to out [B, H] and the new state.

        The state of a row whose episode starts at this very step is zeroed before `x` is read. Nothing here depends
        on the data's values, so it compiles and can be captured in a CUDA graph.
        """
        out, state = self._run(x.unsqueeze(0), state, episode_start)
        return out.squeeze(0), state

    def unroll(self, x: Tensor, state: LSTMState, episode_start: Tensor) -> tuple[Tensor, LSTMState]:
        """Advance T steps, time first: x [T, B, D], episode_start [T, B] bool to out [T, B, H] and the last state.

        Equal to T calls of `step`. The steps between two resets of any row are one fused call of `torch.nn.LSTM`:
        the whole window where no episode starts after its first step, up to T calls where one starts at each.
        Finding the resets reads `episode_start` on the host, which on a GPU waits for the device.

        Raises:
            ValueError: `episode_start` is not [T, B]; batch-first windows would silently mix time and rows.
        """
        if episode_start.shape != x.shape[:2]:
            raise ValueError(
                f"unroll needs x [T, B, D] and episode_start [T, B], but they are {list(x.shape)} and "
                f"{list(episode_start.shape)}."
            )
        resets: list[int] = (1 + episode_start[1:].any(1).nonzero().squeeze(1)).tolist()
        outs = []
        for start, stop in zip([0, *resets], [*resets, len(x)], strict=True):
            out, state = self._run(x[start:stop], state, episode_start[start])
            outs.append(out)
        return torch.cat(outs) if len(outs) > 1 else outs[0], state

    def _run(self, x: Tensor, state: LSTMState, episode_start: Tensor) -> tuple[Tensor, LSTMState]:
        """Zero the state where `episode_start` [B], then read all of x [T, B, D] in one call."""
        hidden, memory = (part.masked_fill(episode_start.unsqueeze(1), 0).unsqueeze(0) for part in state)
        out, (hidden, memory) = self.cell(x, (hidden, memory))
        return out, (hidden.squeeze(0), memory.squeeze(0))
