"""Long short-term memory that knows where episodes start."""

import torch
from torch import Tensor, nn

LSTMState = tuple[Tensor, Tensor]


class LSTM(nn.Module):
    """One LSTM layer (Hochreiter & Schmidhuber 1997; gates as in `torch.nn.LSTM`), zeroed where an episode starts.

    The state is a tuple (h [B, H], c [B, H]). Initialisation is PyTorch's, uniform in ±1/√H, with 1 added to the
    forget gate's bias, so that memory lasts from the beginning (Jozefowicz et al. 2015).

    It computes in float32 under autocast too: what rounding to bfloat16 loses adds up from step to step.

    Args:
        in_features: D.
        hidden: H, also `out_features`.
    """

    def __init__(self, in_features: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.LSTM(in_features, hidden)
        bias: Tensor = self.cell.bias_ih_l0  # type: ignore[assignment]  # of the gates input, forget, cell, output
        with torch.no_grad():
            bias[hidden : 2 * hidden] += 1.0
        self.out_features = hidden

    @property
    def dtype(self) -> torch.dtype:
        """In which it computes."""
        return next(self.cell.parameters()).dtype

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> LSTMState:
        """Return zeros (h [batch, H], c [batch, H]), on the weights' device unless another is named."""
        device = device or next(self.cell.parameters()).device
        zeros = torch.zeros(batch, self.out_features, device=device, dtype=self.dtype)
        return zeros, zeros.clone()

    def step(self, x: Tensor, state: LSTMState, episode_start: Tensor) -> tuple[Tensor, LSTMState]:
        """Advance one step: x [B, D], episode_start [B] bool to out [B, H] and the new state.

        The state of a row whose episode starts at this very step is zeroed before `x` is read. Nothing here depends
        on the data's values, so it compiles and can be captured in a CUDA graph.

        Raises:
            ValueError: `episode_start` is not [B], or the state is of another number of rows.
        """
        self._check(x, state, episode_start, "step needs x [B, D] and episode_start [B]")
        out, state = self._run(x.unsqueeze(0), state, episode_start)
        return out.squeeze(0), state

    def unroll(self, x: Tensor, state: LSTMState, episode_start: Tensor) -> tuple[Tensor, LSTMState]:
        """Advance T steps, time first: x [T, B, D], episode_start [T, B] bool to out [T, B, H] and the last state.

        Equal to T calls of `step`. The steps between two resets of any row are one fused call of `torch.nn.LSTM`:
        the whole window where no episode starts after its first step, up to T calls where one starts at each. (A row
        cut at its resets into pieces, side by side, would always be one call. But packed pieces miss oneDNN's kernel,
        which is five times as fast, and padded ones are more arithmetic; both are slower at the sizes of R2D2.)
        Finding the resets reads `episode_start` on the host, which a CUDA graph cannot: while one is captured, the T
        steps are taken one after the other.

        Raises:
            ValueError: `episode_start` is not [T, B], as batch-first windows would silently mix time and rows; or the
                state is of another number of rows.
        """
        self._check(x, state, episode_start, "unroll needs x [T, B, D] and episode_start [T, B]")
        if is_capturing(x):
            resets = list(range(1, len(x)))
        else:
            resets = (1 + episode_start[1:].any(1).nonzero().squeeze(1)).tolist()
        outs = []
        for start, stop in zip([0, *resets], [*resets, len(x)], strict=True):
            out, state = self._run(x[start:stop], state, episode_start[start])
            outs.append(out)
        return torch.cat(outs) if len(outs) > 1 else outs[0], state

    def _check(self, x: Tensor, state: LSTMState, episode_start: Tensor, needed: str) -> None:
        """See that nothing is broadcast: one row's start or state would be taken for all rows'."""
        if episode_start.shape != x.shape[:-1]:
            raise ValueError(f"{needed}, but they are {list(x.shape)} and {list(episode_start.shape)}.")
        shape = (x.shape[-2], self.out_features)
        if any(part.shape != shape for part in state):
            shapes = " and ".join(str(list(part.shape)) for part in state)
            raise ValueError(f"The state is {shapes}; it must be two of {list(shape)}.")

    def _run(self, x: Tensor, state: LSTMState, episode_start: Tensor) -> tuple[Tensor, LSTMState]:
        """Zero the state where `episode_start` [B], then read all of x [T, B, D] in one call."""
        hidden, memory = (part.masked_fill(episode_start.unsqueeze(1), 0).unsqueeze(0) for part in state)
        with torch.autocast(x.device.type, enabled=False):
            out, (hidden, memory) = self.cell(x.to(self.dtype), (hidden, memory))
        return out, (hidden.squeeze(0), memory.squeeze(0))


def is_capturing(x: Tensor) -> bool:
    """Whether what is done to `x` is being captured as a CUDA graph."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()
