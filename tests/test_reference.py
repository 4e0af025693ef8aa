"""The reference itself: against numbers worked out by hand, and against what its formulas must satisfy."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import reference as ref
from tests.support.reference import FloatArray

INTS = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
RNG_SEEDS = st.integers(0, 2**32 - 1)


def array(*values: float) -> FloatArray:
    return np.array(values, np.float64)


def one_hot(i: int, n: int) -> FloatArray:
    result = np.zeros(n)
    result[i] = 1.0
    return result


def close(actual: object, expected: object, rel: float = 1e-12, abs_: float = 1e-12) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rel, atol=abs_)


# Softmax


def test_softmax() -> None:
    close(ref.softmax(array(0.0, math.log(3.0))), [0.25, 0.75])
    close(ref.log_softmax(array(1e4, 0.0)), [0.0, -1e4])
    close(ref.softmax(array(-1e300, -1e300)), [0.5, 0.5])
    close(ref.softmax(np.array([[0.0, 0.0], [math.log(9.0), 0.0]])), [[0.5, 0.5], [0.9, 0.1]])


# Scalar targets


def test_greedy_policy() -> None:
    assert list(ref.greedy_policy(array(1.0, 5.0, 5.0))) == [0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        ([0, 0, 0], [0, 0, 0], (1 + 0.5 * 2 + 0.25 * 4, 0.125, 3)),
        ([0, 1, 0], [0, 0, 0], (2.0, 0.0, 2)),
        ([0, 0, 0], [0, 1, 0], (2.0, 0.25, 2)),
        ([0, 1, 0], [0, 1, 0], (2.0, 0.0, 2)),
        ([1, 0, 0], [0, 0, 0], (1.0, 0.0, 1)),
        ([0, 0, 0], [1, 0, 0], (1.0, 0.5, 1)),
        ([0, 0, 1], [0, 0, 0], (3.0, 0.0, 3)),
        ([0, 1, 1], [1, 0, 0], (1.0, 0.5, 1)),  # what comes after the first end is another episode
    ],
)
def test_n_step_return(terminated: list[int], truncated: list[int], expected: tuple[float, float, int]) -> None:
    assert ref.n_step_return(array(1, 2, 4), np.array(terminated, bool), np.array(truncated, bool), 0.5) == expected


def test_rescaling_by_hand() -> None:
    close(ref.rescale(array(0.0, 3.0, -3.0, 8.0), 0.0), [0.0, 1.0, -1.0, 2.0])
    close(ref.rescale(array(3.0, -8.0), 0.01), [1.03, -2.08])
    close(ref.unrescale(array(0.0, 1.0, -2.0), 0.0), [0.0, 3.0, -8.0])
    close(ref.unrescale(array(1.03, -2.08), 0.01), [3.0, -8.0])


@given(st.floats(-1e12, 1e12), st.sampled_from([0.0, 1e-6, 1e-3, 1e-2, 0.5]))
def test_rescaling_has_its_inverse(x: float, epsilon: float) -> None:
    close(ref.unrescale(ref.rescale(x, epsilon), epsilon), x, rel=1e-11, abs_=1e-300)
    close(ref.rescale(ref.unrescale(x, epsilon), epsilon), x, rel=1e-11, abs_=1e-300)


@pytest.mark.parametrize("epsilon", [1e-3, 1e-2, 0.5])
def test_rescaling_is_as_printed(epsilon: float) -> None:
    x = array(-300.0, -7.0, -0.1, 0.0, 0.3, 2.0, 1000.0)
    printed = np.sign(x) * (((np.sqrt(1 + 4 * epsilon * (np.abs(x) + 1 + epsilon)) - 1) / (2 * epsilon)) ** 2 - 1)
    close(ref.unrescale(x, epsilon), printed, rel=1e-9, abs_=1e-9)
    close(ref.rescale(x, epsilon), np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + epsilon * x)


# Munchausen


def test_munchausen_by_hand() -> None:
    # With τ = 1, π(·|s) = (¼, ¾) and π(·|s') = (½, ½).
    q, next_q = array(0.0, math.log(3.0)), array(2.0, 2.0)
    close(ref.scaled_log_policy(q, 1.0), [math.log(0.25), math.log(0.75)])
    soft = 2.0 + math.log(2.0)
    assert ref.munchausen_target(1.0, 0.5, 1, q, next_q, 1.0, 0.9, -1.0) == pytest.approx(
        1.0 + 0.9 * math.log(0.75) + 0.5 * soft
    )
    # log ¼ = −1.386 is clipped before α
    assert ref.munchausen_target(1.0, 0.5, 0, q, next_q, 1.0, 0.9, -1.0) == pytest.approx(1.0 - 0.9 + 0.5 * soft)
    assert ref.munchausen_target(1.0, 0.0, 0, q, next_q, 1.0, 0.9, -1.0) == pytest.approx(0.1)
    assert ref.munchausen_target(1.0, 0.5, 0, q, next_q, 1.0, 0.0, -1.0) == pytest.approx(1.0 + 0.5 * soft)
    quantiles = np.array([[1.0, 2.0, 3.0], [0.0, 2.0, 4.0]])
    close(
        ref.munchausen_quantile_target(1.0, 0.5, 0, q, next_q, quantiles, 1.0, 0.9, -1.0),
        [0.1 + 0.5 * (mean + math.log(2.0)) for mean in (0.5, 2.0, 3.5)],
    )


def test_munchausen_scale() -> None:
    # τ log softmax(q / τ) scales with q and τ
    close(ref.scaled_log_policy(array(0.0, 0.03 * math.log(3.0)), 0.03), [0.03 * math.log(0.25), 0.03 * math.log(0.75)])
    # far from the best action: τ log π = −gap, and nothing overflows
    close(ref.scaled_log_policy(array(0.0, 1e6, -1e6), 0.03), [-1e6, 0.0, -2e6])
    target = ref.munchausen_target(1.0, 0.99, 0, array(0.0, 1e6), array(-1e6, 5.0), 0.03, 0.9, -1.0)
    assert target == pytest.approx(1.0 - 0.9 + 0.99 * 5.0)
    assert ref.munchausen_bonus(array(5.0), 0, 0.03, 0.9, -1.0) == 0.0  # one action


@given(RNG_SEEDS, st.floats(0.01, 3.0))
def test_munchausen_soft_value_is_the_log_sum_exp(seed: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    q, next_q = rng.normal(size=4), rng.normal(size=4)
    soft = temperature * np.logaddexp.reduce(next_q / temperature)
    scalar = ref.munchausen_target(0.5, 0.9, 2, q, next_q, temperature, 0.9, -1.0)
    bonus = ref.munchausen_bonus(q, 2, temperature, 0.9, -1.0)
    assert scalar == pytest.approx(0.5 + bonus + 0.9 * soft)
    assert -0.9 <= bonus <= 0.0
    spread = rng.normal(size=(4, 6))
    quantiles = next_q[:, None] + spread - spread.mean(axis=1, keepdims=True)
    per_quantile = ref.munchausen_quantile_target(0.5, 0.9, 2, q, next_q, quantiles, temperature, 0.9, -1.0)
    assert per_quantile.mean() == pytest.approx(scalar)


# Categorical


@pytest.mark.parametrize(
    ("reward", "discount", "expected"),
    [
        (0.0, 1.0, [0.1, 0.2, 0.3, 0.25, 0.15]),  # each on its own atom
        (1.0, 1.0, [0.0, 0.1, 0.2, 0.3, 0.4]),  # each on the next, the last beyond the end
        (0.5, 1.0, [0.05, 0.15, 0.25, 0.275, 0.275]),  # half way; the last clipped
        (0.25, 1.0, [0.075, 0.175, 0.275, 0.2625, 0.2125]),
        (0.0, 0.5, [0.0, 0.2, 0.525, 0.275, 0.0]),  # −1, −½, 0, ½, 1
        (1.0, 0.0, [0.0, 0.0, 0.0, 1.0, 0.0]),  # ended, on an atom
        (-0.75, 0.0, [0.0, 0.75, 0.25, 0.0, 0.0]),  # ended, between
        (2.0, 0.0, [0.0, 0.0, 0.0, 0.0, 1.0]),  # ended, on the last atom
        (-2.0, 0.0, [1.0, 0.0, 0.0, 0.0, 0.0]),
        (9.0, 0.99, [0.0, 0.0, 0.0, 0.0, 1.0]),  # all beyond the end
        (-9.0, 0.99, [1.0, 0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_projection_by_hand(reward: float, discount: float, expected: list[float]) -> None:
    probabilities = array(0.1, 0.2, 0.3, 0.25, 0.15)
    close(ref.categorical_projection(INTS, probabilities, reward, discount), expected)


def test_projection_on_another_support() -> None:
    uneven = array(-1.0, 0.0, 4.0)
    close(ref.categorical_projection(INTS, array(0, 0, 0, 0, 1), 1.0, 1.0, uneven), [0.0, 0.25, 0.75])
    close(ref.categorical_projection(uneven, array(0.5, 0.25, 0.25), 0.0, 0.5), [0.25, 0.25 + 0.25 + 0.125, 0.125])
    close(ref.categorical_projection(INTS, array(0.2, 0.2, 0.2, 0.2, 0.2), 3.0, 1.0, array(7.0)), [1.0])


@given(RNG_SEEDS, st.integers(2, 60), st.floats(-20, 20), st.floats(0, 1))
def test_projection_conserves(seed: int, atoms: int, reward: float, discount: float) -> None:
    rng = np.random.default_rng(seed)
    support = np.linspace(-10.0, 10.0, atoms)
    probabilities = rng.dirichlet(np.ones(atoms))
    projected = ref.categorical_projection(support, probabilities, reward, discount)
    assert projected.min() >= 0.0
    assert projected.sum() == pytest.approx(1.0)
    # the mean of what was clipped to the ends; inside the support that is the mean itself
    clipped = np.clip(reward + discount * support, -10.0, 10.0)
    assert projected @ support == pytest.approx(probabilities @ clipped, abs=1e-9)
    if abs(reward) + 10.0 * discount <= 10.0:
        assert projected @ support == pytest.approx(reward + discount * (probabilities @ support), abs=1e-9)


def test_projection_is_the_identity_at_no_reward_and_no_discount_loss() -> None:
    support = np.linspace(-10.0, 10.0, 51)  # steps of 0.4, not exact in binary
    probabilities = np.random.default_rng(0).dirichlet(np.ones(51))
    close(ref.categorical_projection(support, probabilities, 0.0, 1.0), probabilities, abs_=0)


def test_mixture() -> None:
    probabilities = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    close(ref.categorical_mixture(probabilities, array(0.25, 0.75)), [0.25, 0.375, 0.375])
    close(ref.categorical_mixture(probabilities, array(0, 1)), probabilities[1])


def test_categorical_loss() -> None:
    support = array(-1.0, 0.0, 1.0)
    p = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    next_p = np.array([[1e-300, 1e-300, 1.0], [0.5, 0.5, 1e-300]])
    logits = np.log(np.stack([p, p, p])) + 3.0
    next_logits = np.log(np.stack([next_p, next_p, next_p])) - 5.0
    loss = ref.categorical_loss(
        logits,
        np.array([0, 1, 0]),
        array(0.0, -1.0, 0.5),
        array(0.5, 0.9, 0.0),
        next_logits,
        np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]),
        support,
    )
    # ½ -> (0, ½, ½); −1.9, −1 -> the first atom; ½ again, whatever came next
    half = -0.5 * math.log(0.3) - 0.5 * math.log(0.5)
    close(loss, [half, -math.log(0.6), half])


def test_categorical_loss_is_least_at_the_target() -> None:
    support = np.linspace(-2.0, 2.0, 9)
    rng = np.random.default_rng(1)
    next_logits = rng.normal(size=(1, 2, 9))
    policy = np.array([[0.3, 0.7]])
    mixture = ref.categorical_mixture(ref.softmax(next_logits[0]), policy[0])
    target = ref.categorical_projection(support, mixture, 0.1, 0.9)
    best = np.log(np.stack([target, target]))[None]

    def loss(logits: FloatArray) -> float:
        args = np.array([1]), array(0.1), array(0.9), next_logits, policy, support
        return float(ref.categorical_loss(logits, *args)[0])

    assert loss(best) == pytest.approx(-float(target @ np.log(target)))  # the entropy
    for _ in range(20):
        assert loss(best + 0.1 * rng.normal(size=best.shape)) > loss(best)


# Quantiles


def test_quantile_midpoints() -> None:
    close(ref.quantile_midpoints(1), [0.5])
    close(ref.quantile_midpoints(4), [0.125, 0.375, 0.625, 0.875])


def test_huber() -> None:
    assert [ref.huber(u, 2.0) for u in (0.0, 1.0, -2.0, 3.0, -5.0)] == [0.0, 0.5, 2.0, 4.0, 8.0]


def test_quantile_huber_loss_by_hand() -> None:
    quantiles, taus, targets = array(0.0, 1.0), array(0.25, 0.75), array(-1.0, 0.5, 3.0)
    # u: −1, ½, 3 with weights ¾, ¼, ¼; −2, −½, 2 with weights ¼, ¼, ¾
    pure = (0.75 * 1 + 0.25 * 0.5 + 0.25 * 3) / 3 + (0.25 * 2 + 0.25 * 0.5 + 0.75 * 2) / 3
    assert ref.quantile_huber_loss(quantiles, taus, targets, 0.0) == pytest.approx(pure)
    one = (0.75 * 0.5 + 0.25 * 0.125 + 0.25 * 2.5) / 3 + (0.25 * 1.5 + 0.25 * 0.125 + 0.75 * 1.5) / 3
    assert ref.quantile_huber_loss(quantiles, taus, targets, 1.0) == pytest.approx(one)
    # κ = 2: L = ½, ⅛, 4; 2, ⅛, 2, all over 2
    two = (0.75 * 0.25 + 0.25 * 0.0625 + 0.25 * 2) / 3 + (0.25 * 1 + 0.25 * 0.0625 + 0.75 * 1) / 3
    assert ref.quantile_huber_loss(quantiles, taus, targets, 2.0) == pytest.approx(two)
    assert ref.quantile_huber_loss(quantiles, taus, targets, 1e-9) == pytest.approx(pure, abs=1e-8)
    assert ref.quantile_huber_loss(array(1.0), array(0.3), array(1.0), 1.0) == 0.0


@pytest.mark.parametrize("tau", [0.05, 0.3, 0.5, 0.9])
def test_quantile_loss_is_least_at_the_true_quantile(tau: float) -> None:
    targets = np.sort(np.random.default_rng(2).normal(size=101))
    expected = targets[math.ceil(tau * 101) - 1]
    grid = np.concatenate([np.linspace(-3.0, 3.0, 301), targets])
    losses = [ref.quantile_huber_loss(array(x), array(tau), targets, 0.0) for x in grid]
    assert grid[int(np.argmin(losses))] == expected


def test_quantile_target() -> None:
    quantiles = np.array([[0.0, 1.0, 2.0], [4.0, 6.0, 8.0]])
    close(ref.quantile_target(1.0, 0.5, quantiles, array(0, 1)), [3.0, 4.0, 5.0])
    close(ref.quantile_target(1.0, 0.5, quantiles, array(0.75, 0.25)), [1.5, 2.125, 2.75])
    close(ref.quantile_target(1.0, 0.0, quantiles, array(0.75, 0.25)), [1.0, 1.0, 1.0])


def test_cosine_embedding() -> None:
    weights, bias = np.array([[1.0, 2.0, 4.0], [-1.0, 0.0, 1.0]]), array(0.5, 0.25)
    # cos(π i τ), i = 0, 1, 2: at τ = 0 1, 1, 1; at ½ 1, 0, −1; at 1 1, −1, 1; at ⅓ 1, ½, −½
    expected = [[7.5, 0.25], [0.0, 0.0], [3.5, 0.25], [0.5, 0.0]]
    taus = array(0.0, 0.5, 1.0, 1 / 3)
    close(ref.cosine_embedding(taus, weights, bias), expected)
    # i = 1, 2, 3: at ½ 0, −1, 0; at 1 −1, 1, −1; at ⅓ ½, −½, −1
    expected = [[7.5, 0.25], [0.0, 0.25], [0.0, 2.25 - 2.0 + 0.0], [0.0, 0.0]]
    close(ref.cosine_embedding(taus, weights, bias, first=1), expected)


# Fractions


def test_fractions_by_hand() -> None:
    taus, midpoints, entropy = ref.fractions(np.log(array(0.1, 0.2, 0.7)))
    close(taus, [0.0, 0.1, 0.3, 1.0])
    close(midpoints, [0.05, 0.2, 0.65])
    assert entropy == pytest.approx(-0.1 * math.log(0.1) - 0.2 * math.log(0.2) - 0.7 * math.log(0.7))
    taus, midpoints, entropy = ref.fractions(np.zeros(4))
    close(taus, [0.0, 0.25, 0.5, 0.75, 1.0])
    close(midpoints, ref.quantile_midpoints(4))
    assert entropy == pytest.approx(math.log(4.0))
    taus, _, entropy = ref.fractions(array(0.0, 1e4))
    assert (list(taus), entropy) == ([0.0, 0.0, 1.0], 0.0)
    assert [list(np.atleast_1d(x)) for x in ref.fractions(array(3.0))] == [[0.0, 1.0], [0.5], [0.0]]


def test_fraction_value_and_gradient_by_hand() -> None:
    assert ref.fraction_value(array(0.0, 0.1, 0.3, 1.0), array(1.0, 2.0, 10.0)) == pytest.approx(0.1 + 0.4 + 7.0)
    close(ref.fraction_gradient(array(5.0, 7.0), array(1.0, 6.0, 10.0)), [10.0 - 6.0 - 1.0, 14.0 - 10.0 - 6.0])
    assert len(ref.fraction_gradient(array(), array(1.0))) == 0  # one quantile: no inner fraction


def exponential(tau: float) -> float:
    return -math.log1p(-tau)


def square(tau: float) -> float:
    return tau**2


def steps(tau: float) -> float:
    return 0.0 if tau < 0.5 else 1.0


def test_w1_by_hand() -> None:
    # F⁻¹(ω) = ω: each interval of length l gives l² / 4
    assert ref.fraction_w1(lambda tau: tau, array(0.0, 0.2, 1.0), 10) == pytest.approx(0.04 / 4 + 0.64 / 4)
    # F⁻¹(ω) = ω² on [0, 1]: |ω² − ¼| to ½ is 1/8 − 1/24, from ½ 7/24 − 1/8
    assert ref.fraction_w1(square, array(0.0, 1.0)) == pytest.approx(0.25, abs=1e-6)
    # a step that a fraction meets has no distance; one at ½ of [¼, 1] is below τ̂ = 0.625 for ¼
    assert ref.fraction_w1(steps, array(0.0, 0.5, 1.0), 100) == 0.0
    assert ref.fraction_w1(steps, array(0.0, 0.25, 1.0), 300) == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize(
    ("inverse_cdf", "error"),
    [(lambda tau: tau, 1e-8), (square, 1e-6), (math.exp, 1e-6), (exponential, 1e-3)],  # infinite at 1
)
@pytest.mark.parametrize("inner", [[0.2, 0.5, 0.8], [0.1, 0.15, 0.6]])
def test_fraction_gradient_against_differences(
    inverse_cdf: Callable[[float], float], error: float, inner: list[float]
) -> None:
    taus = array(0.0, *inner, 1.0)
    midpoints = (taus[1:] + taus[:-1]) / 2
    gradient = ref.fraction_gradient(
        np.array([inverse_cdf(tau) for tau in inner]), np.array([inverse_cdf(tau) for tau in midpoints])
    )
    for i in (1, 2, 3):
        ends = []
        for step in (1e-4, -1e-4):
            moved = taus.copy()
            moved[i] += step
            ends.append(ref.fraction_w1(inverse_cdf, moved, 1000))
        assert gradient[i - 1] == pytest.approx((ends[0] - ends[1]) / 2e-4, abs=error)


def test_fraction_logits_gradient_against_differences() -> None:
    logits = array(0.3, -0.5, 1.0)
    taus, midpoints, _ = ref.fractions(logits)
    gradient = ref.fraction_gradient(
        np.array([square(tau) for tau in taus[1:-1]]), np.array([square(tau) for tau in midpoints])
    )
    for k, expected in enumerate(ref.fraction_logits_gradient(logits, gradient)):
        ends = [ref.fraction_w1(square, ref.fractions(logits + h * one_hot(k, 3))[0], 500) for h in (1e-4, -1e-4)]
        assert expected == pytest.approx((ends[0] - ends[1]) / 2e-4, abs=1e-6)


def test_w1_is_least_where_its_gradient_is_none() -> None:
    # for F⁻¹(ω) = ω the even fractions are best
    even = np.linspace(0.0, 1.0, 5)
    close(ref.fraction_gradient(even[1:-1], (even[1:] + even[:-1]) / 2), np.zeros(3))
    assert ref.fraction_w1(lambda tau: tau, even, 50) < ref.fraction_w1(
        lambda tau: tau, array(0, 0.2, 0.5, 0.75, 1), 50
    )


# Heads


def test_dueling() -> None:
    close(ref.dueling(10.0, array(1.0, 2.0, 6.0)), [8.0, 9.0, 13.0])
    advantages = np.array([[1.0, 0.0], [3.0, -4.0]])
    close(ref.dueling(array(1.0, 2.0), advantages), [[0.0, 4.0], [2.0, 0.0]])
    close(ref.dueling(5.0, array(7.0)), [5.0])


def test_noise() -> None:
    close(ref.noise(array(4.0, -9.0, 0.0, -0.25)), [2.0, -3.0, 0.0, -0.5])


def test_noisy_linear() -> None:
    x = array(1.0, -2.0)[None]
    mu_w, sigma_w = np.array([[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]]), np.array([[0.5, 0.1], [0.2, 0.3], [1.0, 1.0]])
    mu_b, sigma_b = array(0.1, 0.2, 0.3), array(1.0, 2.0, 3.0)
    plain = ref.noisy_linear(x, mu_w, sigma_w, mu_b, sigma_b, np.zeros(2), np.zeros(3))
    close(plain, [[-2.9, -4.8, -1.7]])
    # f(in) = (2, −1), f(out) = (1, −3, 0)
    noisy = ref.noisy_linear(x, mu_w, sigma_w, mu_b, sigma_b, array(4.0, -1.0), array(1.0, -9.0, 0.0))
    # weights: ½·2 and −0.1 -> 1.0 + 0.2; −0.2·6 and 0.3·3 -> −1.2 − 1.8; bias: 1 and −6
    close(noisy, [[-2.9 + 1.2 + 1.0, -4.8 - 3.0 - 6.0, -1.7]])


# Replay and schedules


def test_priority_probabilities() -> None:
    priorities = array(1.0, 4.0, 9.0, 0.0)
    close(ref.priority_probabilities(priorities, 1.0), [1 / 14, 4 / 14, 9 / 14, 0.0])
    close(ref.priority_probabilities(priorities, 0.5), [1 / 6, 2 / 6, 3 / 6, 0.0])
    close(ref.priority_probabilities(priorities, 0.0), [0.25] * 4)
    close(ref.priority_probabilities(priorities, 0.5, 0.2), [0.8 / 6 + 0.05, 1.6 / 6 + 0.05, 2.4 / 6 + 0.05, 0.05])
    close(ref.priority_probabilities(priorities, 0.5, 1.0), [0.25] * 4)
    close(ref.priority_probabilities(np.zeros(2), 0.5, 0.1), [0.5, 0.5])


def test_importance_weights() -> None:
    # M P = 2, ½, 1
    probabilities = array(0.5, 0.125, 0.25)
    close(ref.importance_weights(probabilities, 4, 1.0), [0.25, 1.0, 0.5])
    close(ref.importance_weights(probabilities, 4, 0.5), [0.5, 1.0, math.sqrt(0.5)])
    close(ref.importance_weights(probabilities, 4, 0.0), [1.0, 1.0, 1.0])
    close(ref.importance_weights(probabilities, 1_000_000, 0.5), [0.5, 1.0, math.sqrt(0.5)])  # M divides out
    close(ref.importance_weights(array(0.3), 7, 0.4), [1.0])
