"""The reference against numbers worked out by hand, where no test does this with the package's own code."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from tests.support import reference as ref
from tests.support.reference import FloatArray


def array(*values: float) -> FloatArray:
    return np.array(values, np.float64)


def one_hot(i: int, n: int) -> FloatArray:
    result = np.zeros(n)
    result[i] = 1.0
    return result


def close(actual: object, expected: object, rel: float = 1e-12, abs_: float = 1e-12) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rel, atol=abs_)


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


def test_cosine_embedding() -> None:
    weights, bias = np.array([[1.0, 2.0, 4.0], [-1.0, 0.0, 1.0]]), array(0.5, 0.25)
    # cos(π i τ), i = 0, 1, 2: at τ = 0 1, 1, 1; at ½ 1, 0, −1; at 1 1, −1, 1; at ⅓ 1, ½, −½
    expected = [[7.5, 0.25], [0.0, 0.0], [3.5, 0.25], [0.5, 0.0]]
    taus = array(0.0, 0.5, 1.0, 1 / 3)
    close(ref.cosine_embedding(taus, weights, bias), expected)
    # i = 1, 2, 3: at ½ 0, −1, 0; at 1 −1, 1, −1; at ⅓ ½, −½, −1
    expected = [[7.5, 0.25], [0.0, 0.25], [0.0, 2.25 - 2.0 + 0.0], [0.0, 0.0]]
    close(ref.cosine_embedding(taus, weights, bias, first=1), expected)


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
