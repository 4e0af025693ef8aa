"""The scalar head's values and losses against hand computation and numpy."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pixelq.networks import (
    LSTM,
    MLP,
    ActionStreams,
    FractionHead,
    ImplicitHead,
    MinAtarCNN,
    NoisyLinear,
    QNetwork,
    QuantileHead,
    ScalarHead,
    Target,
)
from pixelq.networks.heads import huber, huber_of_weighted, of_action, rescale, td_error
from pixelq.networks.streams import Stream


@pytest.fixture(autouse=True)
def _seed_and_one_thread() -> Iterator[None]:
    """Small networks gain nothing from a second thread, and lose much where another process wants that core."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def scalar(in_features: int, num_actions: int, loss: Any = "huber", **streams: Any) -> ScalarHead:
    return ScalarHead(ActionStreams(in_features, num_actions, **streams), loss=loss)


def one_hot(index: list[int], size: int) -> torch.Tensor:
    return nn.functional.one_hot(torch.tensor(index), size).float()


def test_td_error_by_hand() -> None:
    q = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.25]])
    next_q = torch.tensor([[10.0, 20.0], [4.0, 8.0], [1000.0, -1000.0]])
    policy = torch.tensor([[0.0, 1.0], [0.25, 0.75], [1.0, 0.0]])
    action, reward, discount = torch.tensor([1, 0, 1]), torch.tensor([1.0, -1.0, 0.5]), torch.tensor([0.9, 0.5, 0.0])
    error = td_error(q, Target(action, reward, discount, next_q, policy))
    # 1 + 0.9·20 − 2 = 17;  −1 + 0.5·(1 + 6) − 3 = −0.5;  terminated: 0.5 − 0.25 = 0.25
    torch.testing.assert_close(error, torch.tensor([17.0, -0.5, 0.25]))


def test_losses_and_priorities_by_hand() -> None:
    # Targets are the rewards: errors 3, −0.5, 1 and −2.
    q = torch.zeros(4, 2)
    action, zero = torch.tensor([0, 1, 1, 0]), torch.zeros(4)
    reward = torch.tensor([3.0, -0.5, 1.0, -2.0])
    target = Target(action, reward, zero, torch.full((4, 2), 7.0), one_hot([0, 0, 1, 1], 2))
    loss, priority, q_taken = scalar(1, 2, loss="huber").loss(q, target)
    torch.testing.assert_close(loss, torch.tensor([2.5, 0.125, 0.5, 1.5]))
    torch.testing.assert_close(priority, reward.abs())
    torch.testing.assert_close(q_taken, zero)
    loss, priority, q_taken = scalar(1, 2, loss="squared").loss(q, target)
    torch.testing.assert_close(q_taken, zero)
    torch.testing.assert_close(loss, torch.tensor([9.0, 0.25, 1.0, 4.0]))
    torch.testing.assert_close(priority, reward.abs())


@pytest.mark.parametrize(("kind", "expected"), [("huber", [-1.0, 0.5, -1.0, 1.0]), ("squared", [-6.0, 1.0, -2.0, 4.0])])
def test_gradient_by_hand_and_none_through_the_target(kind: str, expected: list[float]) -> None:
    q = torch.zeros(4, 2, requires_grad=True)
    next_q = torch.ones(4, 2, requires_grad=True)
    policy = torch.full((4, 2), 0.5, requires_grad=True)
    reward = torch.tensor([2.5, -1.0, 0.5, -2.5])  # errors 3, −0.5, 1, −2 with discount ½ and q' = 1
    action = torch.tensor([0, 1, 1, 0])
    target = Target(action, reward, torch.full((4,), 0.5), next_q, policy)
    loss, priority, q_taken = scalar(1, 2, loss=kind).loss(q, target)
    loss.sum().backward()
    assert q.grad is not None
    gradient = torch.zeros(4, 2)
    gradient[torch.arange(4), action] = torch.tensor(expected)
    torch.testing.assert_close(q.grad, gradient)
    assert next_q.grad is None
    assert policy.grad is None
    assert not priority.requires_grad
    assert not q_taken.requires_grad


@pytest.mark.parametrize("kind", ["huber", "squared"])
@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("leading", [(64,), (5, 8)])
def test_loss_equals_numpy(kind: str, greedy: bool, leading: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    q, next_q, preference = rng.normal(0, 2, (3, *leading, 6))
    action, reward = rng.integers(0, 6, leading), rng.normal(0, 1, leading)
    discount = 0.97 * (rng.random(leading) < 0.7)
    policy = np.exp(preference) / np.exp(preference).sum(-1, keepdims=True)
    if greedy:
        policy = np.eye(6)[next_q.argmax(-1)]
        np.testing.assert_allclose((policy * next_q).sum(-1), next_q.max(-1))
    error = reward + discount * (policy * next_q).sum(-1) - np.take_along_axis(q, action[..., None], -1)[..., 0]
    expected = error**2
    if kind == "huber":
        expected = np.where(np.abs(error) <= 1, 0.5 * error**2, np.abs(error) - 0.5)
    head = scalar(1, 6, loss=kind)  # type: ignore[arg-type]
    target = Target(*(torch.from_numpy(x) for x in (action, reward, discount, next_q, policy)))
    loss, priority, q_taken = head.loss(torch.from_numpy(q), target)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-9)
    np.testing.assert_allclose(priority.numpy(), np.abs(error), rtol=1e-9)
    np.testing.assert_array_equal(q_taken.numpy(), np.take_along_axis(q, action[..., None], -1)[..., 0])


def test_huber_delta() -> None:
    x = torch.tensor([-3.0, -2.0, 0.0, 1.0, 5.0])
    torch.testing.assert_close(huber(x, 2.0), torch.tensor([4.0, 2.0, 0.0, 0.5, 8.0]))


def test_a_weight_is_clipped_together_with_the_error_as_in_dqn_zoo() -> None:
    """DQN Zoo clips the gradient of mean(w · ½δ²) with respect to δ to ±1/B: w·δ is clipped, and not δ."""
    error = torch.tensor([0.5, 3.0, -3.0, -8.0, 1.5, 0.0])
    weight = torch.tensor([1.0, 0.25, 0.5, 0.1, 0.2, 0.3])
    q = torch.zeros(6, 1, requires_grad=True)
    zero = torch.zeros(6)
    target = Target(zero.long(), error, zero, torch.zeros(6, 1), torch.ones(6, 1), weight)
    loss, priority, _ = scalar(1, 1).loss(q, target)
    (loss * weight).sum().backward()
    assert q.grad is not None
    torch.testing.assert_close(-q.grad[:, 0], torch.tensor([0.5, 0.75, -1.0, -0.8, 0.3, 0.0]))
    # ½δ² up to |δ| = 1/w, and (|δ| − ½/w)/w beyond it
    torch.testing.assert_close(loss, torch.tensor([0.125, 4.5, 4.0, 32.0, 1.125, 0.0]))
    torch.testing.assert_close(priority, error.abs())
    torch.testing.assert_close(huber_of_weighted(error, torch.ones(6)), huber(error))


@pytest.mark.parametrize("wrong", Target._fields)
def test_shapes_that_would_broadcast_are_refused(wrong: str) -> None:
    q, zero = torch.zeros(4, 2), torch.zeros(4)
    target = Target(zero.long(), zero, zero, torch.zeros(4, 2), torch.zeros(4, 2), torch.ones(4))
    td_error(q, target)
    with pytest.raises(ValueError, match=r"\[B.*, got shapes"):
        td_error(q, target._replace(**{wrong: getattr(target, wrong).unsqueeze(-1)}))


@pytest.mark.parametrize("leading", [(6,), (3, 2)])
def test_values_of_the_actions(leading: tuple[int, ...]) -> None:
    values, action = torch.randn(*leading, 4, 5), torch.randint(4, leading)
    chosen, means = of_action(values, action), of_action(values[..., 0], action)
    assert chosen.shape == (*leading, 5)
    for index in np.ndindex(*leading):
        assert torch.equal(chosen[index], values[index][action[index]])
        assert torch.equal(means[index], values[index][action[index], 0])


def linear(layer: nn.Module, x: np.ndarray) -> np.ndarray:
    return x @ layer.weight.detach().numpy().astype(np.float64).T + layer.bias.detach().numpy()


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("hidden", [16, 0, None])
def test_forward_equals_numpy(dueling: bool, hidden: int | None) -> None:
    head = scalar(5, 3, hidden=hidden, dueling=dueling)
    x = torch.randn(4, 5)

    def stream(layers: Stream) -> np.ndarray:
        out = x.numpy().astype(np.float64)
        if hidden:
            assert layers.hidden is not None
            out = np.maximum(linear(layers.hidden, out), 0)
        return linear(layers.out, out)

    expected = stream(head.streams.advantage)
    if dueling:
        assert head.streams.state_value is not None
        expected = stream(head.streams.state_value) + expected - expected.mean(-1, keepdims=True)
    value = head(x)
    np.testing.assert_allclose(value.detach().numpy(), expected, atol=1e-5)
    assert head.q(value) is value
    assert sum(p.numel() for p in head.parameters()) == (
        (5 * 3 + 3) + dueling * (5 + 1)
        if not hidden
        else (1 + dueling) * (5 * 16 + 16) + 16 * 3 + 3 + dueling * (16 + 1)
    )


def test_dueling_ignores_a_constant_in_the_advantages_and_averages_to_the_state_value() -> None:
    head = scalar(5, 4, hidden=8, dueling=True)
    assert head.streams.state_value is not None
    x = torch.randn(6, 5)
    before = head(x)
    torch.testing.assert_close(before.mean(-1, keepdim=True), head.streams.state_value(x))
    with torch.no_grad():
        head.streams.advantage.out.bias += 5.0
    torch.testing.assert_close(head(x), before, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        head.streams.state_value.out.bias += 5.0
    torch.testing.assert_close(head(x), before + 5, rtol=1e-5, atol=1e-5)


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="loss must be 'huber' or 'squared', got 'l1'"):
        scalar(3, 2, loss="l1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="hidden at least 0, got 3, 2, 1 and -1"):
        scalar(3, 2, hidden=-1)
    with pytest.raises(ValueError, match="num_actions and outputs must be at least 1"):
        scalar(3, 0)
    with pytest.raises(ValueError, match=r"init must be one of torch, .*, orthogonal, got 'normal'"):
        scalar(3, 2, init="normal")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: NoisyLinear(0, 3), "in_features and out_features must be at least 1, got 0 and 3"),
        (lambda: NoisyLinear(3, 0), "in_features and out_features must be at least 1, got 3 and 0"),
        (lambda: NoisyLinear(3, 3, -0.5), "sigma must be a finite number of at least 0, got -0.5"),
        (lambda: LSTM(4, 0), "in_features and hidden must be at least 1, got 4 and 0"),
        (lambda: LSTM(0, 4), "in_features and hidden must be at least 1, got 0 and 4"),
        (lambda: QuantileHead(ActionStreams(3, 2, 5), -1), "kappa must be a finite number of at least 0, got -1"),
        (lambda: QuantileHead(ActionStreams(3, 2, 5), np.inf), "kappa must be a finite number of at least 0, got inf"),
        (lambda: ImplicitHead(ActionStreams(3, 2), kappa=-1), "kappa must be a finite number of at least 0, got -1"),
        (
            lambda: FractionHead(ActionStreams(3, 2), kappa=np.nan),
            "kappa must be a finite number of at least 0, got nan",
        ),
        (
            lambda: ActionStreams(3, 2, noisy_sigma=-1),
            "noisy_sigma must be None or a finite number of at least 0, got -1",
        ),
        (
            lambda: ActionStreams(3, 2, hidden=None, layer_norm="x"),
            "layer_norm must be True, False or 'channels', got 'x'",
        ),
        (lambda: MLP(3, layer_norm="x"), "layer_norm must be True, False or 'channels', got 'x'"),
        (lambda: MinAtarCNN((4, 10, 10), layer_norm="x"), "layer_norm must be True, False or 'channels', got 'x'"),
    ],
)
def test_parts_that_cannot_be_are_refused(make: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        make()
    assert str(caught.value) == sentence


def test_the_least_of_a_part_is_allowed() -> None:
    assert NoisyLinear(1, 1, 0).weight_sigma.item() == 0.0
    assert QuantileHead(ActionStreams(1, 1, 1, layer_norm="channels"), 0).kappa == 0
    assert LSTM(1, 1).out_features == 1


def test_q_network_composes_and_every_parameter_learns() -> None:
    network = QNetwork(MLP(3, (8,)), scalar(8, 2, hidden=8, dueling=True))
    obs = torch.randn(16, 3)
    torch.testing.assert_close(network.q(obs), network.head.q(network.head(network.encoder(obs))))
    value = network(obs)
    target = Target(torch.ones(16).long(), torch.ones(16), torch.zeros(16), value, torch.rand(16, 2))
    loss, *_ = network.head.loss(value, target)
    loss.mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    with pytest.raises(TypeError, match="without an LSTM"):
        network.initial_state(2)


def test_regression_to_given_targets_reaches_them() -> None:
    network = QNetwork(MLP(2, (32,)), scalar(32, 2, hidden=32))
    obs = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).repeat(2, 1)
    action = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    reward = torch.tensor([1.0, -1.0, -1.0, 1.0, 0.0, 2.0, 3.0, -2.0])  # exclusive or, and another table
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(300):
        value = network(obs)
        loss, *_ = network.head.loss(value, Target(action, reward, torch.zeros(8), value, torch.zeros(8, 2)))
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    q = network.q(obs).gather(1, action[:, None])[:, 0]
    torch.testing.assert_close(q, reward, rtol=0, atol=0.05)


def test_a_return_is_rescaled_before_the_loss() -> None:
    head = ScalarHead(ActionStreams(4, 3, hidden=None), rescaling=True)
    value, action, target = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2]), torch.linspace(-300, 300, 6)
    error = rescale(target) - value[torch.arange(6), action]
    found = head.loss_to(value, action, target)
    torch.testing.assert_close(found.loss, huber(error))
    torch.testing.assert_close(found.priority, error.abs())


def test_the_output_layer_computes_in_float32_under_autocast() -> None:
    streams, x = ActionStreams(64, 3, hidden=32), torch.randn(16, 64)
    with torch.autocast("cpu", torch.bfloat16):
        found = streams(x)
        hidden = streams.advantage.activation(streams.advantage.hidden(x)).float()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.flatten(1), streams.advantage.out(hidden), rtol=0, atol=1e-6)
