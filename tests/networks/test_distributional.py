"""Distributional heads against the float64 reference, hand computation, and what their formulas must satisfy."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pixelq.networks import (
    ActionStreams,
    CategoricalHead,
    FractionHead,
    HeadLoss,
    ImplicitHead,
    QuantileHead,
    ScalarHead,
    Target,
)
from pixelq.networks.categorical import categorical_projection
from pixelq.networks.heads import rescale, rescale_inverse
from pixelq.networks.implicit import CosineEmbedding
from pixelq.networks.quantile import midpoints, quantile_huber_loss, target_quantiles
from tests.support import reference as ref
from tests.support.cases import examples

BATCH, ACTIONS, FEATURES = 24, 4, 6


class Case:
    """A batch [B] in float64, as numpy and as tensors; a third has discount 0, some rewards leave the support."""

    def __init__(self, seed: int = 0, greedy: bool = False, num_actions: int = ACTIONS) -> None:
        rng = np.random.default_rng(seed)
        self.action = rng.integers(num_actions, size=BATCH)
        self.reward = rng.normal(0, 6, BATCH)
        self.discount = 0.97 * (np.arange(BATCH) % 3 > 0)
        preference = rng.normal(0, 2, (BATCH, num_actions))
        self.policy = np.stack([ref.greedy_policy(p) if greedy else ref.softmax(p) for p in preference])
        self.tensors = [torch.from_numpy(x) for x in (self.action, self.reward, self.discount)]
        self.features, self.next_features = torch.from_numpy(rng.normal(0, 1, (2, BATCH, FEATURES)))

    def loss(self, head: Any, target_head: Any, generator: torch.Generator | None = None) -> tuple[HeadLoss, Any, Any]:
        """Return the head's loss and the representations of both heads at the features."""
        value, next_value = head(self.features), target_head(self.next_features)
        target = Target(*self.tensors, next_value, torch.from_numpy(self.policy))
        return head.loss(value, target, generator), value, next_value


def streams(outputs: int = 1, num_actions: int = ACTIONS) -> ActionStreams:
    return ActionStreams(FEATURES, num_actions, outputs, hidden=8, dueling=True)


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def spread(head: nn.Module) -> Any:
    """Double precision, and values as far apart as returns are."""
    head = head.double()
    with torch.no_grad():
        for stream in (head.streams.advantage, head.streams.state_value):
            stream.out.weight *= 10
    return head


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# Categorical


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.sampled_from([0.0, 0.3, 0.99, 1.0]))
@settings(deadline=None)
def test_projection_equals_the_reference(seed: int, atoms: int, discount: float) -> None:
    rng = np.random.default_rng(seed)
    support = np.linspace(-10, 10, atoms)
    probabilities = ref.softmax(rng.normal(0, 2, atoms))
    on_an_atom = support[rng.integers(atoms)]
    for reward in (0.0, rng.normal(0, 8), 25.0, -25.0, on_an_atom, 20 / (atoms - 1)):
        expected = ref.categorical_projection(support, probabilities, reward, discount)
        moved = torch.from_numpy(reward + discount * support)
        for batch in (1, 3):
            ours = categorical_projection(
                torch.from_numpy(probabilities).expand(batch, -1), moved.expand(batch, -1), torch.from_numpy(support)
            )
            np.testing.assert_allclose(ours[-1].numpy(), expected, atol=1e-9)
            assert ours.sum(-1).numpy() == pytest.approx(1, abs=1e-12)


def test_projection_by_hand() -> None:
    support = torch.tensor([-1.0, 0.0, 1.0])
    certain = torch.tensor([[0.0, 0.0, 1.0]])  # all on z = 1
    for moved, expected in (
        (0.25, [0, 0.75, 0.25]),
        (1.0, [0, 0, 1]),  # exactly on the last atom
        (0.0, [0, 1, 0]),  # exactly on an inner one
        (-1.0, [1, 0, 0]),
        (7.0, [0, 0, 1]),  # beyond the support
        (-7.0, [1, 0, 0]),
        (-0.5, [0.5, 0.5, 0]),
    ):
        ours = categorical_projection(certain, torch.tensor([[-1.0, 0.0, moved]]), support)
        assert ours.tolist() == [expected]


def test_projection_is_exact_in_float32_where_targets_lie_on_atoms() -> None:
    support = torch.linspace(-10, 10, 51)
    ours = categorical_projection(torch.eye(51), support.expand(51, 51), support)
    torch.testing.assert_close(ours, torch.eye(51), rtol=0, atol=5e-6)


@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("num_actions", [1, ACTIONS])
def test_categorical_loss_equals_the_reference(greedy: bool, num_actions: int) -> None:
    case = Case(greedy=greedy, num_actions=num_actions)
    head, target_head = (spread(CategoricalHead(streams(11, num_actions), -5.0, 7.0)) for _ in range(2))
    (loss, priority, q), value, next_value = case.loss(head, target_head)
    support = np.linspace(-5, 7, 11)
    expected = ref.categorical_loss(
        array(value), case.action, case.reward, case.discount, array(next_value), case.policy, support
    )
    np.testing.assert_allclose(array(loss), expected, rtol=1e-6)  # the support is kept in float32
    np.testing.assert_array_equal(array(priority), array(loss))
    means = ref.softmax(array(value)) @ support
    np.testing.assert_allclose(array(head.q(value)), means, atol=1e-6)
    np.testing.assert_allclose(q.numpy(), means[np.arange(BATCH), case.action], atol=1e-6)


# Quantiles


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.sampled_from([0.0, 0.5, 1.0, 2.5]))
@settings(deadline=None, max_examples=examples(50))
def test_quantile_huber_loss_equals_the_reference(seed: int, n: int, m: int, kappa: float) -> None:
    rng = np.random.default_rng(seed)
    quantiles, tau, target = rng.normal(0, 2, (2, n)), rng.random((2, n)), rng.normal(0, 2, (2, m))
    quantiles[0, 0] = target[0, 0]  # an error of exactly 0
    ours = quantile_huber_loss(*map(torch.from_numpy, (quantiles, tau, target)), kappa)
    expected = [ref.quantile_huber_loss(*row, kappa) for row in zip(quantiles, tau, target, strict=True)]
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_quantile_huber_loss_by_hand() -> None:
    quantiles = torch.tensor([[0.0, 1.0]], requires_grad=True)
    tau, target = torch.tensor([0.25, 0.75]), torch.tensor([[0.5, 3.0, -2.0]])
    # u: quantile 0: ½, 3, −2 → weights ¼, ¼, ¾, Huber ⅛, 2½, 1½; quantile 1: −½, 2, −3 → ¼, ¾, ¼ and ⅛, 1½, 2½.
    loss = quantile_huber_loss(quantiles, tau, target)
    expected = (0.25 * 0.125 + 0.25 * 2.5 + 0.75 * 1.5 + 0.25 * 0.125 + 0.75 * 1.5 + 0.25 * 2.5) / 3
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    # Gradients: −weight · clipped error, averaged over the target.
    assert quantiles.grad is not None
    first = -(0.25 * 0.5 + 0.25 * 1 - 0.75 * 1) / 3
    second = -(-0.25 * 0.5 + 0.75 * 1 - 0.25 * 1) / 3
    assert quantiles.grad.tolist() == [pytest.approx([first, second])]


@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("num_actions", [1, ACTIONS])
def test_quantile_head_equals_the_reference(greedy: bool, num_actions: int) -> None:
    case = Case(1, greedy, num_actions)
    head, target_head = (spread(QuantileHead(streams(9, num_actions), kappa=1.0)) for _ in range(2))
    (loss, priority, q), value, next_value = case.loss(head, target_head)
    for b in range(BATCH):
        target = ref.quantile_target(case.reward[b], case.discount[b], array(next_value)[b], case.policy[b])
        quantiles = array(value)[b, case.action[b]]
        expected = ref.quantile_huber_loss(quantiles, ref.quantile_midpoints(9), target, 1.0)
        assert loss[b].item() == pytest.approx(expected, rel=1e-6)
        assert q[b].item() == pytest.approx(quantiles.mean())
    assert torch.equal(priority, loss)
    np.testing.assert_allclose(array(head.q(value)), array(value).mean(-1))
    np.testing.assert_allclose(midpoints(9).numpy(), ref.quantile_midpoints(9), atol=1e-7)


def test_target_quantiles_carry_no_gradient() -> None:
    next_quantiles = torch.randn(2, 3, 4, requires_grad=True)
    policy = torch.full((2, 3), 1 / 3, requires_grad=True)
    target = Target(torch.zeros(2).long(), torch.ones(2), torch.ones(2), next_quantiles, policy)
    assert not target_quantiles(target, next_quantiles).requires_grad


# Implicit


def test_cosine_embedding_equals_the_reference() -> None:
    embedding = CosineEmbedding(5, 7).double()
    tau = torch.rand(3, 4, dtype=torch.float64)
    weight, bias = array(embedding.linear.weight), array(embedding.linear.bias)
    for row, ours in zip(tau, embedding(tau), strict=True):
        np.testing.assert_allclose(array(ours), ref.cosine_embedding(row.numpy(), weight, bias, first=1), atol=1e-6)


def implicit_at(head: Any, features: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """Quantiles [A, N] of one state by the weights, in numpy."""
    embedding = ref.cosine_embedding(tau, array(head.embedding.linear.weight), array(head.embedding.linear.bias), 1)

    def stream(layers: Any, x: np.ndarray) -> np.ndarray:
        hidden = np.maximum(x @ array(layers.hidden.weight).T + array(layers.hidden.bias), 0)
        return hidden @ array(layers.out.weight).T + array(layers.out.bias)

    together = features * embedding  # [N, D]
    advantage, value = (stream(part, together) for part in (head.streams.advantage, head.streams.state_value))
    return np.stack([ref.dueling(v[0], a) for v, a in zip(value, advantage, strict=True)], -1)


@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("num_actions", [1, ACTIONS])
def test_implicit_loss_equals_the_reference_at_the_fractions_drawn(greedy: bool, num_actions: int) -> None:
    case = Case(2, greedy, num_actions)
    head, target_head = (
        spread(ImplicitHead(streams(1, num_actions), samples=5, target_samples=7, policy_samples=3, cosines=8))
        for _ in range(2)
    )
    for implicit in (head, target_head):  # in double precision, as everything else here
        implicit.embedding.order = torch.pi * torch.arange(1, 9, dtype=torch.float64)
    (loss, priority, q), value, _ = case.loss(head, target_head, torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    taus, next_taus = (torch.rand(BATCH, n, generator=generator).double().numpy() for n in (5, 7))
    for b in range(BATCH):
        quantiles = implicit_at(head, array(case.features[b]), taus[b])[case.action[b]]
        next_quantiles = implicit_at(target_head, array(case.next_features[b]), next_taus[b])
        target = ref.quantile_target(case.reward[b], case.discount[b], next_quantiles, case.policy[b])
        assert loss[b].item() == pytest.approx(ref.quantile_huber_loss(quantiles, taus[b], target, 1.0), rel=1e-6)
        assert q[b].item() == pytest.approx(quantiles.mean(), rel=1e-5, abs=1e-5)
        assert priority[b].item() == pytest.approx(ref.absolute_quantile_error(quantiles, target), rel=1e-5)
        policy_quantiles = implicit_at(head, array(case.features[b]), ref.quantile_midpoints(3))
        np.testing.assert_allclose(array(head.q(value)[b]), policy_quantiles.mean(-1), atol=1e-5)
    assert not priority.requires_grad


def test_implicit_fractions_are_uniform_and_differ_from_row_to_row(monkeypatch: pytest.MonkeyPatch) -> None:
    head = ImplicitHead(streams(), samples=64, target_samples=32)
    asked: list[Tensor] = []
    at = head.embedding.forward
    monkeypatch.setattr(head.embedding, "forward", lambda tau: (asked.append(tau), at(tau))[1])
    case = Case()
    case.features, case.next_features = case.features.float(), case.next_features.float()
    for _ in range(20):
        case.loss(head, head)
    online, target = (torch.cat([t for t in asked if t.shape[1] == n]) for n in (64, 32))
    for tau in (online, target):
        assert tau.shape[0] == 20 * BATCH
        assert len({tuple(row) for row in tau.tolist()}) == len(tau)
        histogram = torch.histc(tau, 10, 0, 1) / tau.numel()
        torch.testing.assert_close(histogram, torch.full((10,), 0.1), rtol=0, atol=0.01)


# Fractions


def test_fraction_head_equals_the_reference() -> None:
    case = Case(3)
    head, target_head = (spread(FractionHead(streams(), fractions=6, entropy=0.01, cosines=8)) for _ in range(2))
    with torch.no_grad():
        head.proposal.weight.normal_(0, 1)
    (loss, priority, q), value, _ = case.loss(head, target_head)
    policy_q = array(head.q(value))
    loss.sum().backward()
    proposal_gradient = np.zeros((BATCH, 6))
    for b in range(BATCH):
        features = array(case.features[b])
        logits = array(head.proposal.weight) @ features + array(head.proposal.bias)
        tau, middle, _ = ref.fractions(logits)
        all_values = implicit_at(head, features, middle)
        quantiles, between = all_values[case.action[b]], implicit_at(head, features, tau[1:-1])[case.action[b]]
        next_quantiles = implicit_at(target_head, array(case.next_features[b]), middle)
        target = ref.quantile_target(case.reward[b], case.discount[b], next_quantiles, case.policy[b])
        expected = ref.quantile_huber_loss(quantiles, middle, target, 1.0)
        assert loss[b].item() == pytest.approx(expected, rel=1e-5)
        assert priority[b].item() == pytest.approx(ref.absolute_quantile_error(quantiles, target), rel=1e-5)
        np.testing.assert_allclose(policy_q[b], [ref.fraction_value(tau, v) for v in all_values], atol=1e-5)
        assert q[b].item() == pytest.approx(ref.fraction_value(tau, quantiles), abs=1e-5)
        gradient = ref.fraction_logits_gradient(logits, ref.fraction_gradient(between, quantiles))
        p = ref.softmax(logits)
        entropy_gradient = -p * (np.log(p) - (p * np.log(p)).sum())
        proposal_gradient[b] = gradient - 0.01 * entropy_gradient
    assert head.proposal.bias.grad is not None
    assert head.proposal.weight.grad is not None
    np.testing.assert_allclose(array(head.proposal.bias.grad), proposal_gradient.sum(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        array(head.proposal.weight.grad), proposal_gradient.T @ array(case.features), rtol=1e-4, atol=1e-4
    )


def test_the_fractions_teach_the_encoder_nothing_and_the_quantiles_teach_the_fractions_nothing() -> None:
    head = FractionHead(streams(), fractions=6)
    features = torch.randn(3, FEATURES, requires_grad=True)
    value = head(features)
    (value.fractions.tau.square().sum() + value.fractions.entropy.sum()).backward(retain_graph=True)
    assert features.grad is None
    head.zero_grad()
    head.q(value).sum().backward()
    assert head.proposal.weight.grad is None
    assert features.grad is not None


# Value rescaling


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rescaling_and_its_inverse(dtype: torch.dtype) -> None:
    x = torch.cat([torch.linspace(-1e6, 1e6, 10_001), torch.logspace(-6, 6, 100), torch.tensor([0.0])]).to(dtype)
    relative = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(rescale_inverse(rescale(x)), x, rtol=relative, atol=1e-12)
    torch.testing.assert_close(rescale(rescale_inverse(x / 1e3)), x / 1e3, rtol=relative, atol=1e-12)
    np.testing.assert_allclose(rescale(x).numpy(), ref.rescale(x.double().numpy()), rtol=relative, atol=1e-12)
    np.testing.assert_allclose(rescale_inverse(x).numpy(), ref.unrescale(x.double().numpy()), rtol=relative, atol=1e-12)


def test_rescaled_scalar_head_equals_the_reference() -> None:
    case = Case(5)
    head, target_head = (spread(ScalarHead(streams(), rescaling=True)) for _ in range(2))
    (loss, priority, q), value, next_value = case.loss(head, target_head)
    for b in range(BATCH):
        next_q = ref.unrescale(array(next_value)[b])
        expected = ref.rescale(case.reward[b] + case.discount[b] * (case.policy[b] @ next_q))
        error = expected - array(value)[b, case.action[b]]
        assert priority[b].item() == pytest.approx(abs(error), rel=1e-6)
        assert loss[b].item() == pytest.approx(ref.huber(error, 1.0), rel=1e-6)
        assert q[b].item() == pytest.approx(ref.unrescale(array(value)[b, case.action[b]]), rel=1e-6)
    np.testing.assert_allclose(array(head.q(value)), ref.unrescale(array(value)), rtol=1e-9)


# All


MAKERS = {
    "scalar": lambda: ScalarHead(streams()),
    "categorical": lambda: CategoricalHead(streams(5)),
    "quantile": lambda: QuantileHead(streams(5)),
    "implicit": lambda: ImplicitHead(streams()),
    "fqf": lambda: FractionHead(streams()),
}


@pytest.mark.parametrize("wrong", ["action", "reward", "discount", "next_policy"])
@pytest.mark.parametrize("name", MAKERS)
def test_shapes_that_would_broadcast_are_refused(name: str, wrong: str) -> None:
    head: Any = MAKERS[name]()
    value = head(torch.randn(BATCH, FEATURES))
    ones = torch.ones(BATCH)
    target = Target(ones.long(), ones, ones, value, torch.ones(BATCH, ACTIONS))
    head.loss(value, target)
    with pytest.raises(ValueError, match=rf"next_policy \[B, {ACTIONS}\], got shapes"):
        head.loss(value, target._replace(**{wrong: getattr(target, wrong)[..., None]}))


def test_wrong_arguments_are_refused() -> None:
    for make in (ScalarHead, ImplicitHead, FractionHead):
        with pytest.raises(ValueError, match="outputs=1 for this head, got 5"):
            make(streams(5))
    with pytest.raises(ValueError, match="at least 2 outputs, one for each atom, got 1"):
        CategoricalHead(streams(1))
    with pytest.raises(ValueError, match="v_min must be below v_max"):
        CategoricalHead(streams(5), 1.0, 1.0)
    with pytest.raises(ValueError, match="sigma must be a positive number, got 0"):
        CategoricalHead(streams(5), loss="hl_gauss", sigma=0.0)
    with pytest.raises(ValueError, match="must be at least 1, got 0, 64 and 32"):
        ImplicitHead(streams(), samples=0)
    with pytest.raises(ValueError, match="cosines must be at least 1, got 0"):
        ImplicitHead(streams(), cosines=0)
    with pytest.raises(ValueError, match="fractions must be at least 1, got 0"):
        FractionHead(streams(), fractions=0)
    with pytest.raises(ValueError, match="loss must be 'huber' or 'squared', got 'l1'"):
        ScalarHead(streams(), loss="l1")  # type: ignore[arg-type]


def test_distributional_dueling_combines_each_output_before_any_softmax() -> None:
    plain = streams(5)
    x = torch.randn(3, FEATURES)
    out = plain(x)  # [B, A, K]
    assert plain.state_value is not None
    torch.testing.assert_close(out.mean(1), plain.state_value(x))
    with torch.no_grad():
        plain.state_value.out.bias[2] += 4.0
    shifted = plain(x) - out
    torch.testing.assert_close(shifted, torch.tensor([0, 0, 4.0, 0, 0]).expand(3, ACTIONS, 5))
