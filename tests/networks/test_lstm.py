"""The LSTM against nn.LSTMCell, single steps and episode starts."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pixelq.networks import LSTM, MLP, ActionStreams, LastStep, QNetwork, ScalarHead, Target, make_encoder
from pixelq.networks.lstm import LSTMState
from tests.support.cases import examples


@pytest.fixture(autouse=True)
def _seed_and_one_thread() -> Iterator[None]:
    """Small networks gain nothing from a second thread, and lose much where another process wants that core."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_state(batch: int, hidden: int) -> LSTMState:
    return torch.randn(batch, hidden), torch.randn(batch, hidden)


def unroll_cell(
    lstm: LSTM, x: torch.Tensor, state: LSTMState, episode_start: torch.Tensor
) -> tuple[torch.Tensor, LSTMState]:
    """Row by row and step by step with nn.LSTMCell and the same weights."""
    cell = nn.LSTMCell(x.shape[2], lstm.out_features)
    cell.load_state_dict({key.removesuffix("_l0"): value for key, value in lstm.cell.state_dict().items()})
    out, h, c = torch.zeros(*x.shape[:2], lstm.out_features), state[0].clone(), state[1].clone()
    with torch.no_grad():
        for t in range(x.shape[0]):
            for b in range(x.shape[1]):
                if episode_start[t, b]:
                    h[b], c[b] = 0, 0
                h[b], c[b] = cell(x[t, b], (h[b], c[b]))
            out[t] = h
    return out, (h, c)


@settings(max_examples=examples(40), deadline=None)
@given(st.data())
def test_unroll_equals_steps_and_lstm_cell(data: st.DataObject) -> None:
    time, batch = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 3))
    row = st.lists(st.booleans(), min_size=batch, max_size=batch)
    episode_start = torch.tensor(data.draw(st.lists(row, min_size=time, max_size=time)))
    torch.manual_seed(time)
    lstm, x, first = LSTM(4, 5), torch.randn(time, batch, 4), random_state(batch, 5)

    out, state = lstm.unroll(x, first, episode_start)
    steps, step_state = [], first
    for t in range(time):
        step_out, step_state = lstm.step(x[t], step_state, episode_start[t])
        steps.append(step_out)
    cell_out, cell_state = unroll_cell(lstm, x, first, episode_start)

    assert out.shape == (time, batch, 5)
    for expected, expected_state in ((torch.stack(steps), step_state), (cell_out, cell_state)):
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(state[0], expected_state[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(state[1], expected_state[1], rtol=0, atol=1e-6)
    torch.testing.assert_close(out[-1], state[0])


def test_an_episode_start_forgets_even_what_is_not_finite_and_only_its_row() -> None:
    lstm, x = LSTM(4, 5), torch.randn(2, 4)
    state = random_state(2, 5)
    state[0][0], state[1][0] = torch.nan, torch.inf
    out, (h, c) = lstm.step(x, state, torch.tensor([True, False]))
    fresh, fresh_state = lstm.step(x, lstm.initial_state(2), torch.tensor([False, False]))
    torch.testing.assert_close(out[0], fresh[0])
    torch.testing.assert_close(c[0], fresh_state[1][0])
    assert not torch.allclose(out[1], fresh[1], atol=1e-2)
    assert torch.isnan(state[0][0]).all()  # the caller's state is not written to
    torch.testing.assert_close(h, out)


@pytest.mark.parametrize(
    ("resets", "calls"), [([], 1), ([(0, 0), (0, 2)], 1), ([(3, 0)], 2), ([(2, 1), (2, 2), (5, 0)], 3)]
)
def test_number_of_fused_calls(resets: list[tuple[int, int]], calls: int) -> None:
    lstm, episode_start = LSTM(2, 3), torch.zeros(6, 3, dtype=torch.bool)
    for t, b in resets:
        episode_start[t, b] = True
    seen: list[int] = []
    lstm.cell.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    lstm.unroll(torch.randn(6, 3, 2), lstm.initial_state(3), episode_start)
    assert (len(seen), sum(seen)) == (calls, 6)


def test_while_a_graph_is_captured_an_unroll_asks_for_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    lstm, x, state = LSTM(4, 5), torch.randn(6, 3, 4), random_state(3, 5)
    episode_start = torch.rand(6, 3) < 0.3
    assert episode_start[1:].any()
    expected = lstm.unroll(x, state, episode_start)
    seen: list[int] = []
    lstm.cell.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    monkeypatch.setattr("pixelq.networks.lstm.is_capturing", lambda x: True)
    torch.testing.assert_close(lstm.unroll(x, state, episode_start), expected, rtol=0, atol=1e-6)
    assert seen == [1] * 6


def test_gradients_are_those_of_finite_differences() -> None:
    lstm, x, (h, c) = LSTM(3, 4).double(), torch.randn(5, 2, 3).double(), random_state(2, 4)
    episode_start = torch.tensor([[0, 1], [0, 0], [1, 0], [0, 0], [0, 1]], dtype=torch.bool)
    weights = dict(lstm.named_parameters())
    inputs = [tensor.double().requires_grad_() for tensor in (x, h, c, *weights.values())]

    def unrolled(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        given = dict(zip(weights, values, strict=True))
        call = torch.func.functional_call(Unroll(lstm), {f"lstm.{name}": w for name, w in given.items()}, (x, h, c))
        return call  # type: ignore[no-any-return]

    class Unroll(nn.Module):
        def __init__(self, lstm: LSTM) -> None:
            super().__init__()
            self.lstm = lstm

        def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            out, (hidden, memory) = self.lstm.unroll(x, (h, c), episode_start)
            return torch.cat([out.flatten(), hidden.flatten(), memory.flatten()])

    assert torch.autograd.gradcheck(unrolled, inputs)


def test_the_forget_gate_starts_open() -> None:
    lstm = LSTM(4, 100)
    means = [gate.mean().item() for gate in lstm.cell.bias_ih_l0.chunk(4)]  # input, forget, cell, output
    assert means == pytest.approx([0.0, 1.0, 0.0, 0.0], abs=0.03)
    stds = [gate.std().item() for gate in lstm.cell.bias_ih_l0.chunk(4)]
    assert stds == pytest.approx([0.1 / 3**0.5] * 4, rel=0.2)  # uniform in ±1/√100, around 1 as around 0


def test_bfloat16_leaves_the_lstm_in_float32() -> None:
    lstm, x, state = LSTM(4, 5), torch.randn(6, 3, 4), random_state(3, 5)
    starts = torch.zeros(6, 3, dtype=torch.bool)
    for start in (None, (3, 1)):
        if start is not None:
            starts[start] = True
        exact = lstm.unroll(x.bfloat16().float(), state, starts)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(lstm.unroll(x.bfloat16(), state, starts), exact, rtol=0, atol=1e-6)


def test_gradients_flow_through_time_but_not_across_an_episode_start() -> None:
    lstm, x = LSTM(4, 5), torch.randn(6, 2, 4, requires_grad=True)
    state = tuple(part.requires_grad_() for part in random_state(2, 5))
    episode_start = torch.zeros(6, 2, dtype=torch.bool)
    episode_start[3, 0] = True
    out, _ = lstm.unroll(x, state, episode_start)  # type: ignore[arg-type]
    out[-1].sum().backward()
    assert x.grad is not None
    reached = x.grad.abs().sum(-1) > 0  # [T, B]
    assert reached[:, 0].tolist() == [False] * 3 + [True] * 3
    assert reached[:, 1].all()
    for part in state:
        assert part.grad is not None
        assert part.grad[0].abs().sum() == 0
        assert part.grad[1].abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in lstm.parameters())


def test_initial_state_and_shape_error() -> None:
    lstm = LSTM(4, 5)
    h, c = lstm.initial_state(3, "cpu")
    assert h.shape == c.shape == (3, 5)
    assert not h.any()
    assert not c.any()
    assert h.data_ptr() != c.data_ptr()
    with pytest.raises(ValueError, match=r"\[7, 3, 4\] and \[3, 7\]"):
        lstm.unroll(torch.zeros(7, 3, 4), (h, c), torch.zeros(3, 7, dtype=torch.bool))


def test_nothing_is_broadcast_over_rows_or_steps() -> None:
    lstm, x, no = LSTM(4, 5), torch.zeros(2, 4), torch.zeros(2, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"x and episode_start must be \[B, D\] and \[B\], got \[2, 4\] and \[1\]"):
        lstm.step(x, lstm.initial_state(2), no[:1])
    for call in (
        lambda state: lstm.step(x, state, no),
        lambda state: lstm.unroll(x.expand(3, 2, 4), state, no.expand(3, 2)),
    ):
        with pytest.raises(ValueError, match=r"state must be two tensors \[2, 5\], got \[1, 5\] and \[1, 5\]"):
            call(lstm.initial_state(1))
    network = QNetwork(MLP(4, ()), ScalarHead(ActionStreams(5, 3, hidden=0)), LSTM(7, 5), last_action=True)
    last = LastStep(torch.zeros(2, dtype=torch.int64), torch.zeros(2))
    with pytest.raises(ValueError, match=r"must be \[3, 2\], as the observations are, got \[2\] and \[2\]"):
        network.unroll(x.expand(3, 2, 4), network.initial_state(2), no.expand(3, 2), last)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((5, 5), "in_features of the LSTM must be 8, got 5"), ((8, 6), "in_features of the head must be 6, got 5")],
)
def test_parts_of_other_sizes_are_refused(sizes: tuple[int, int], message: str) -> None:
    head = ScalarHead(ActionStreams(5, 3, hidden=0))
    with pytest.raises(ValueError, match=message):
        QNetwork(MLP(4, (8,)), head, LSTM(*sizes))
    with pytest.raises(ValueError, match="in_features of the head must be 8, got 5"):
        QNetwork(MLP(4, (8,)), head)


def test_recurrent_q_network_unroll_equals_steps() -> None:
    encoder = make_encoder("minatar", (6, 6, 3))
    network = QNetwork(encoder, ScalarHead(ActionStreams(5, 4, hidden=8, dueling=True)), LSTM(encoder.out_features, 5))
    obs = torch.randint(0, 256, (5, 2, 6, 6, 3), dtype=torch.uint8)
    episode_start = torch.rand(5, 2) < 0.4
    value, last = network.unroll(obs, network.initial_state(2), episode_start)
    assert value.shape == (5, 2, 4)
    state = network.initial_state(2)
    for t in range(5):
        step_value, state = network.step(obs[t], state, episode_start[t])
        torch.testing.assert_close(value[t], step_value, rtol=0, atol=1e-6)
    torch.testing.assert_close(last, state, rtol=0, atol=1e-6)
    ones = torch.ones(5, 2)
    target = Target(ones.long(), ones, ones, value, torch.full((5, 2, 4), 0.25))
    loss, priority, _ = network.head.loss(value, target)
    assert loss.shape == priority.shape == (5, 2)
    loss.mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    with pytest.raises(TypeError, match="call step or unroll"):
        network.q(obs[0])


def test_an_unroll_is_noisy_like_its_steps() -> None:
    streams = ActionStreams(5, 4, hidden=8, noisy_sigma=0.5)
    network = QNetwork(MLP(3, (6,)), ScalarHead(streams), LSTM(6, 5))
    obs, starts, noise = torch.randn(5, 2, 3), torch.rand(5, 2) < 0.4, network.draw_noise(1)
    value, _ = network.unroll(obs, network.initial_state(2), starts, noise=noise)
    state = network.initial_state(2)
    for t in range(5):
        step_value, state = network.step(obs[t], state, starts[t], noise=noise)
        torch.testing.assert_close(value[t], step_value, rtol=0, atol=1e-6)
    assert not torch.allclose(value, network.unroll(obs, network.initial_state(2), starts)[0], atol=1e-3)
    with pytest.raises(ValueError, match=r"noise must be that of draw_noise\(1\), which all steps share"):
        network.unroll(obs, network.initial_state(2), starts, noise=network.draw_noise(5))


def test_the_network_can_learn_to_remember() -> None:
    """The answer is the first observation of the episode, four steps ago: impossible without memory."""
    network = QNetwork(MLP(2, (8,)), ScalarHead(ActionStreams(16, 2, hidden=0)), LSTM(8, 16))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    cue = torch.tensor([0, 1] * 8)
    obs = torch.zeros(10, 16, 2)
    episode_start = torch.zeros(10, 16, dtype=torch.bool)
    for start, shown in ((0, cue), (5, 1 - cue)):  # the second episode shows the opposite
        obs[start] = nn.functional.one_hot(shown, 2).float()
        episode_start[start] = True
    answers = torch.stack([nn.functional.one_hot(shown, 2).float() for shown in (cue, 1 - cue)])  # [2, 16, 2]
    for _ in range(150):
        value, _ = network.unroll(obs, network.initial_state(16), episode_start)
        loss = (value[[4, 9]] - answers).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01  # 0.25 without memory


@pytest.mark.parametrize("reads", [(True, False), (False, True), (True, True)])
def test_the_lstm_reads_what_the_step_before_did(reads: tuple[bool, bool]) -> None:
    """As a network by hand does that is given one-hot action and tanh(reward) beside the features."""
    last_action, last_reward = reads
    width = 2 + 3 * last_action + last_reward
    lstm = LSTM(width, 4)
    head = ScalarHead(ActionStreams(4, 3, hidden=0))
    network = QNetwork(MLP(2, ()), head, lstm, last_action=last_action, last_reward=last_reward)
    obs, state = torch.randn(5, 2, 2), network.initial_state(2)
    starts = torch.zeros(5, 2, dtype=torch.bool)
    starts[0], starts[3, 1] = True, True
    last = LastStep(torch.randint(3, (5, 2)), torch.randn(5, 2))
    inputs = torch.zeros(5, 2, width)
    inputs[..., :2] = obs
    for t, b in starts.logical_not().nonzero().tolist():
        if last_action:
            inputs[t, b, 2 + last.action[t, b]] = 1.0
        if last_reward:
            inputs[t, b, -1] = torch.tanh(last.reward[t, b])
    expected = head(lstm.unroll(inputs, state, starts)[0])
    torch.testing.assert_close(network.unroll(obs, state, starts, last)[0], expected, rtol=0, atol=1e-6)
    for t in range(5):
        value, state = network.step(obs[t], state, starts[t], LastStep(last.action[t], last.reward[t]))
        torch.testing.assert_close(value, expected[t], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="last must be a LastStep"):
        network.unroll(obs, state, starts)


def test_a_network_without_an_lstm_reads_no_last_step() -> None:
    with pytest.raises(ValueError, match="need an LSTM"):
        QNetwork(MLP(2, ()), ScalarHead(ActionStreams(2, 3, hidden=0)), last_action=True)
