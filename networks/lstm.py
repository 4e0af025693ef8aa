"""Long short-term memory whose state is reset where an episode starts."""

import torch
from torch import Tensor, nn

LSTMState = tuple[Tensor, Tensor]
"""State of an LSTM: (h [B, H], c [B, H])."""


class LSTM(nn.Module):
    """One LSTM layer (Hochreiter & Schmidhuber 1997; gates as in `torch.nn.LSTM`), reset where an episode starts.

    The state is a tuple (h [B, H], c [B, H]). Initialisation is PyTorch's, uniform in ±1/√H, with 1 added to the
    forget gate's bias, so that memory lasts from the start of training (Jozefowicz et al. 2015).

    It computes in float32 under autocast too, because the errors of rounding to bfloat16 would add up from step to
    step.

    Args:
        in_features: D, size of the inputs.
        hidden: H, size of the state and of the output.

    Raises:
        ValueError: If a size is below 1.
    """

    def __init__(self, in_features: int, hidden: int) -> None:
        super().__init__()
        if min(in_features, hidden) < 1:
            raise ValueError(f"in_features and hidden must be at least 1, got {in_features} and {hidden}")
        self.cell = nn.LSTM(in_features, hidden)
        bias: Tensor = self.cell.bias_ih_l0  # type: ignore[assignment]  # gates: input, forget, cell, output
        with torch.no_grad():
            bias[hidden : 2 * hidden] += 1.0
        self.out_features = hidden

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, in which the layer computes."""
        return next(self.cell.parameters()).dtype

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> LSTMState:
        """Return a state of zeros for `batch` rows, on the weights' device unless another is given."""
        device = device or next(self.cell.parameters()).device
        zeros = torch.zeros(batch, self.out_features, device=device, dtype=self.dtype)
        return zeros, zeros.clone()

    def step(self, x: Tensor, state: LSTMState, episode_start: Tensor) -> tuple[Tensor, LSTMState]:
        """Advance one step: x [B, D], episode_start [B] bool to out [B, H] and the new state.

        The state of a row whose episode starts at this step is zeroed before `x` is read. The computation does not
        depend on the data's values, so it can be compiled and captured in a CUDA graph.

        Raises:
            ValueError: If `episode_start` is not [B], or the state has another number of rows.
        """
        self._check(x, state, episode_start, "x and episode_start must be [B, D] and [B]")
        out, state = self._run(x.unsqueeze(0), state, episode_start)
        return out.squeeze(0), state

    def unroll(self, x: Tensor, state: LSTMState, episode_start: Tensor) -> tuple[Tensor, LSTMState]:
        """Advance T steps, time first: x [T, B, D], episode_start [T, B] bool to out [T, B, H] and the last state.

        This equals T calls of `step`. The steps between two resets of any row are one fused call of `torch.nn.LSTM`:
        one call if no episode starts after the first step, up to T calls if one starts at each step. (With each row
        cut into pieces at its resets, side by side as a batch, one call would always do. But packed pieces miss
        oneDNN's kernel, which is five times as fast, and padded ones need more arithmetic; both are slower at the sizes
        of R2D2.) Finding the resets reads `episode_start` on the host, which is impossible in a CUDA graph: while one
        is captured, each of the T steps is a separate call.

        Raises:
            ValueError: If `episode_start` is not [T, B] (batch-first sequences would silently mix time and rows), or
                the state has another number of rows.
        """
        self._check(x, state, episode_start, "x and episode_start must be [T, B, D] and [T, B]")
        if is_capturing(x):
            resets = list(range(1, len(x)))
        else:
            resets = (1 + episode_start[1:].any(1).nonzero().squeeze(1)).tolist()
        outs = []
        for start, stop in zip([0, *resets], [*resets, len(x)], strict=True):
            out, state = self._run(x[start:stop], state, episode_start[start])
            outs.append(out)
        return torch.cat(outs) if len(outs) > 1 else outs[0], state

    def _check(self, x: Tensor, state: LSTMState, episode_start: Tensor, requirement: str) -> None:
        """Check the shapes, as broadcasting would silently use one row's start or state for all rows."""
        if episode_start.shape != x.shape[:-1]:
            raise ValueError(f"{requirement}, got {list(x.shape)} and {list(episode_start.shape)}")
        shape = (x.shape[-2], self.out_features)
        if any(part.shape != shape for part in state):
            shapes = " and ".join(str(list(part.shape)) for part in state)
            raise ValueError(f"state must be two tensors {list(shape)}, got {shapes}")

    def _run(self, x: Tensor, state: LSTMState, episode_start: Tensor) -> tuple[Tensor, LSTMState]:
        """Zero the state of the rows in `episode_start` [B], then read all of x [T, B, D] in one call."""
        hidden, cell = (part.masked_fill(episode_start.unsqueeze(1), 0).unsqueeze(0) for part in state)
        with torch.autocast(x.device.type, enabled=False):
            out, (hidden, cell) = self.cell(x.to(self.dtype), (hidden, cell))
        return out, (hidden.squeeze(0), cell.squeeze(0))


def is_capturing(x: Tensor) -> bool:
    """Return whether operations on `x` are being captured in a CUDA graph."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()
