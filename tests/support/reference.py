"""The formulas of the value-based family in plain float64 numpy, written from the papers to test the agents against.

Clarity over speed: one transition at a time, loops where they read better. Shapes: B batch, A actions, K atoms,
N quantiles of the online net, M quantiles of the target, C cosines, D features, I inputs, O outputs.
A `discount` is already γⁿ, and 0 where the episode ended. A `policy` is π(a|s') as probabilities: one-hot on the
greedy action for Q-learning (the online net's greedy action: double Q-learning), anything else for an expectation.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


# Softmax


def log_softmax(logits: FloatArray) -> FloatArray:
    """The logarithm of softmax over the last axis [..., K] -> [..., K], finite for any finite logits."""
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True)), np.float64)


def softmax(logits: FloatArray) -> FloatArray:
    """The probabilities of logits over the last axis [..., K] -> [..., K]."""
    return np.asarray(np.exp(log_softmax(logits)), np.float64)


# Scalar targets


def greedy_policy(q: FloatArray) -> FloatArray:
    """All probability on the first of the best actions: [A] -> [A]."""
    policy = np.zeros_like(q)
    policy[int(np.argmax(q))] = 1.0
    return policy


def n_step_return(
    reward: FloatArray, terminated: BoolArray, truncated: BoolArray, gamma: float
) -> tuple[float, float, int]:
    """The n-step return from [n] rewards and ends: (Σ γᵏ r_k, discount of the bootstrap value, steps taken).

    Hessel et al. 2018 (Rainbow), the equation for R_t^(n). The sum stops with the episode. The discount is
    γ^steps, and 0 after a termination; after a truncation the value of the last observation still counts. An end that
    is both is a termination.
    """
    total = 0.0
    steps = 0
    for k in range(len(reward)):
        total += gamma**k * float(reward[k])
        steps += 1
        if terminated[k]:
            return total, 0.0, steps
        if truncated[k]:
            break
    return total, gamma**steps, steps


def rescale(x: FloatArray | float, epsilon: float = 1e-3) -> FloatArray:
    """The value rescaling h(x) = sign(x)(√(|x| + 1) − 1) + εx of Pohlen et al. 2018, proposition A.2; any shape.

    √(y + 1) − 1 is written y / (√(y + 1) + 1), which keeps its digits for small y.
    """
    x = np.asarray(x, np.float64)
    y = np.abs(x)
    return np.asarray(np.sign(x) * y / (np.sqrt(y + 1.0) + 1.0) + epsilon * x, np.float64)


def unrescale(x: FloatArray | float, epsilon: float = 1e-3) -> FloatArray:
    """The inverse h⁻¹(x) = sign(x)(((√(1 + 4ε(|x| + 1 + ε)) − 1) / 2ε)² − 1), proposition A.2; any shape.

    With y = |x| and s = √(1 + 4ε(y + 1 + ε)), let z = (s − 1) / 2ε be what is squared. As s² − (1 + 2ε)² = 4εy,
    z − 1 = (s − (1 + 2ε)) / 2ε = 2y / (s + 1 + 2ε) =: d, and z² − 1 = d(d + 2): no difference of near equals is left,
    and ε = 0 needs no limit.
    """
    x = np.asarray(x, np.float64)
    y = np.abs(x)
    s = np.sqrt(1.0 + 4.0 * epsilon * (y + 1.0 + epsilon))
    d = 2.0 * y / (s + 1.0 + 2.0 * epsilon)
    return np.asarray(np.sign(x) * d * (d + 2.0), np.float64)


# Munchausen


def scaled_log_policy(q: FloatArray, temperature: float) -> FloatArray:
    """τ log π for π = softmax(q / τ): [A] -> [A].

    Vieillard et al. 2020, appendix: q − v − τ log Σ exp((q − v) / τ), v = max q. No exponent is positive and one is 0,
    so a small τ and large values are safe.
    """
    v = float(np.max(q))
    total = sum(math.exp((float(value) - v) / temperature) for value in q)
    return np.array([float(value) - v - temperature * math.log(total) for value in q])


def munchausen_bonus(q: FloatArray, action: int, temperature: float, alpha: float, lower: float) -> float:
    """What is added to the reward, α [τ log π(a|s)] clipped to [l₀, 0], from the target net's q(s, ·) [A].

    Vieillard et al. 2020. The clipping is of τ log π, before α; l₀ = `lower` ≤ 0.
    """
    return alpha * min(max(float(scaled_log_policy(q, temperature)[action]), lower), 0.0)


def munchausen_target(
    reward: float,
    discount: float,
    action: int,
    q: FloatArray,
    next_q: FloatArray,
    temperature: float,
    alpha: float,
    lower: float,
) -> float:
    """r + α[τ log π(a|s)] + γ Σ_a' π(a'|s')(q(s', a') − τ log π(a'|s')), with q, next_q [A] of the target net.

    The regression target of M-DQN: Vieillard et al. 2020, algorithm 1. α = 0 is their Soft-DQN.
    """
    log_policy = scaled_log_policy(next_q, temperature)
    soft_value = 0.0
    for a in range(len(next_q)):
        probability = math.exp(float(log_policy[a]) / temperature)
        soft_value += probability * (float(next_q[a]) - float(log_policy[a]))
    return reward + munchausen_bonus(q, action, temperature, alpha, lower) + discount * soft_value


def munchausen_quantile_target(
    reward: float,
    discount: float,
    action: int,
    q: FloatArray,
    next_q: FloatArray,
    next_quantiles: FloatArray,
    temperature: float,
    alpha: float,
    lower: float,
) -> FloatArray:
    """The target of M-IQN per quantile: as `munchausen_target` with z_j(s', a') for q(s', a'); -> [M].

    Vieillard et al. 2020, appendix. q and next_q [A] are the means that make the policies (their code draws other
    fractions for them); next_quantiles is [A, M].
    """
    log_policy = scaled_log_policy(next_q, temperature)
    bonus = munchausen_bonus(q, action, temperature, alpha, lower)
    target = np.zeros(next_quantiles.shape[1])
    for j in range(next_quantiles.shape[1]):
        soft_value = 0.0
        for a in range(len(next_q)):
            probability = math.exp(float(log_policy[a]) / temperature)
            soft_value += probability * (float(next_quantiles[a, j]) - float(log_policy[a]))
        target[j] = reward + bonus + discount * soft_value
    return target


# Categorical (C51)


def categorical_projection(
    support: FloatArray,
    probabilities: FloatArray,
    reward: float,
    discount: float,
    target_support: FloatArray | None = None,
) -> FloatArray:
    """The distribution of r + γZ on the target support: support [K], probabilities [K] -> [K of the target support].

    Bellemare et al. 2017, algorithm 1, for one transition: each atom, moved and clipped to the ends, shares its
    probability among its two neighbours by nearness. Where it falls on an atom, the algorithm as printed (l = u = b)
    drops the probability; here that atom gets all of it. Supports increase strictly and need not be even.
    """
    atoms = support if target_support is None else target_support
    projected = np.zeros(len(atoms))
    for z, p in zip(support, probabilities, strict=True):
        moved = reward + discount * float(z)
        if moved <= atoms[0]:
            projected[0] += p
        elif moved >= atoms[-1]:
            projected[-1] += p
        else:
            right = 1
            while atoms[right] <= moved:
                right += 1
            gap = float(atoms[right]) - float(atoms[right - 1])
            projected[right - 1] += p * (float(atoms[right]) - moved) / gap
            projected[right] += p * (moved - float(atoms[right - 1])) / gap
    return projected


def categorical_mixture(probabilities: FloatArray, policy: FloatArray) -> FloatArray:
    """The distribution of Z(s', a') for a' ~ policy: probabilities [A, K], policy [A] -> [K]."""
    mixture = np.zeros(probabilities.shape[1])
    for a in range(len(policy)):
        mixture += policy[a] * probabilities[a]
    return mixture


def categorical_loss(
    logits: FloatArray,
    action: IntArray,
    reward: FloatArray,
    discount: FloatArray,
    next_logits: FloatArray,
    next_policy: FloatArray,
    support: FloatArray,
) -> FloatArray:
    """The cross entropy −Σ_i m_i log p_i(s, a) of each transition: Bellemare et al. 2017, algorithm 1's output.

    logits, next_logits [B, A, K]; action, reward, discount [B]; next_policy [B, A]; support [K] -> [B].
    """
    losses = np.zeros(len(reward))
    for b in range(len(reward)):
        mixture = categorical_mixture(softmax(next_logits[b]), next_policy[b])
        target = categorical_projection(support, mixture, float(reward[b]), float(discount[b]))
        log_p = log_softmax(logits[b, action[b]])
        for i in range(len(support)):
            losses[b] -= target[i] * log_p[i]
    return losses


# Quantiles (QR-DQN, IQN)


def quantile_midpoints(n: int) -> FloatArray:
    """The fractions τ̂_i = (2i − 1) / 2N, i = 1..N, of QR-DQN: Dabney et al. 2018a, lemma 2; -> [N]."""
    return np.array([(2 * i - 1) / (2 * n) for i in range(1, n + 1)])


def huber(u: float, kappa: float) -> float:
    """L_κ(u): ½u² up to |u| = κ, then κ(|u| − ½κ). Dabney et al. 2018a, equation 9."""
    return 0.5 * u**2 if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)


def quantile_huber_loss(quantiles: FloatArray, taus: FloatArray, targets: FloatArray, kappa: float) -> float:
    """Σ_i 1/M Σ_j |τ_i − 1{u_ij < 0}| L_κ(u_ij) / κ, u_ij = target_j − quantile_i; quantiles, taus [N], targets [M].

    Dabney et al. 2018b, equation 3 (2018a, equation 10, is without the division by κ: the same at κ = 1). κ = 0 is its
    limit, the quantile loss |τ − 1{u < 0}| |u|: 2018a, equation 8.
    """
    loss = 0.0
    for quantile, tau in zip(quantiles, taus, strict=True):
        for target in targets:
            u = float(target) - float(quantile)
            weight = abs(float(tau) - (1.0 if u < 0.0 else 0.0))
            size = huber(u, kappa) / kappa if kappa > 0.0 else abs(u)
            loss += weight * size / len(targets)
    return loss


def absolute_quantile_error(quantiles: FloatArray, targets: FloatArray) -> float:
    """Σ_i 1/M Σ_j |target_j − quantile_i|, quantiles [N], targets [M]: the priority of Beyond The Rainbow."""
    return sum(abs(float(target) - float(quantile)) for quantile in quantiles for target in targets) / len(targets)


def quantile_target(reward: float, discount: float, next_quantiles: FloatArray, policy: FloatArray) -> FloatArray:
    """r + γ Σ_a π(a) z_j(s', a), the mean over actions of each quantile: next_quantiles [A, M], policy [A] -> [M].

    For a one-hot policy this is Dabney et al. 2018a, algorithm 1. For others it is what M-IQN does (Vieillard et al.
    2020); it has the mean of the mixture over actions, not its quantiles.
    """
    target = np.zeros(next_quantiles.shape[1])
    for j in range(next_quantiles.shape[1]):
        value = sum(float(policy[a]) * float(next_quantiles[a, j]) for a in range(len(policy)))
        target[j] = reward + discount * value
    return target


def cosine_embedding(taus: FloatArray, weights: FloatArray, bias: FloatArray, first: int = 0) -> FloatArray:
    """ReLU(Σ_i cos(π i τ) w_di + b_d) for taus [N], weights [D, C], bias [D] -> [N, D].

    Dabney et al. 2018b, equation 4, where i goes from 0 to C − 1 (first = 0). The public implementations take 1 to C
    (first = 1).
    """
    embedding = np.zeros((len(taus), len(bias)))
    for n, tau in enumerate(taus):
        for d in range(len(bias)):
            total = float(bias[d])
            for c in range(weights.shape[1]):
                total += math.cos(math.pi * (first + c) * float(tau)) * float(weights[d, c])
            embedding[n, d] = max(total, 0.0)
    return embedding


# Fractions (FQF)


def fractions(logits: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """From logits [N]: the fractions τ_0 = 0..τ_N = 1 [N + 1], their midpoints τ̂ [N], and the entropy of q = softmax.

    Yang et al. 2019: τ_i = Σ_{j<i} q_j and τ̂_i = (τ_i + τ_{i+1}) / 2; the entropy is −Σ q_i log q_i.
    """
    q = softmax(logits)
    log_q = log_softmax(logits)
    n = len(logits)
    taus = np.zeros(n + 1)
    for i in range(n):
        taus[i + 1] = taus[i] + q[i]
    taus[n] = 1.0
    midpoints = np.array([(taus[i] + taus[i + 1]) / 2.0 for i in range(n)])
    entropy = -sum(float(q[i]) * float(log_q[i]) for i in range(n))
    return taus, midpoints, entropy


def fraction_value(taus: FloatArray, midpoint_values: FloatArray) -> float:
    """q = Σ_i (τ_{i+1} − τ_i) F⁻¹(τ̂_i), from taus [N + 1] and F⁻¹(τ̂) [N]: Yang et al. 2019."""
    return sum((float(taus[i + 1]) - float(taus[i])) * float(midpoint_values[i]) for i in range(len(midpoint_values)))


def fraction_gradient(values: FloatArray, midpoint_values: FloatArray) -> FloatArray:
    """∂W₁/∂τ_i = 2F⁻¹(τ_i) − F⁻¹(τ̂_i) − F⁻¹(τ̂_{i−1}) for i = 1..N − 1: Yang et al. 2019, proposition 1.

    values are F⁻¹ at the inner fractions τ_1..τ_{N−1} [N − 1], midpoint_values those at τ̂_0..τ̂_{N−1} [N]; -> [N − 1].
    """
    n = len(midpoint_values)
    return np.array([2.0 * values[i - 1] - midpoint_values[i] - midpoint_values[i - 1] for i in range(1, n)])


def fraction_logits_gradient(logits: FloatArray, gradient: FloatArray) -> FloatArray:
    """The chain rule from ∂W₁/∂τ_i, i = 1..N − 1 [N − 1], to the logits: -> [N].

    With τ_i = Σ_{j<i} q_j and q = softmax: ∂τ_i/∂logit_k = q_k (1{k < i} − τ_i).
    """
    n = len(logits)
    q = softmax(logits)
    taus, _, _ = fractions(logits)
    result = np.zeros(n)
    for k in range(n):
        for i in range(1, n):
            result[k] += gradient[i - 1] * q[k] * ((1.0 if k < i else 0.0) - taus[i])
    return result


def fraction_w1(inverse_cdf: Callable[[float], float], taus: FloatArray, points: int = 2000) -> float:
    """W₁ = Σ_i ∫_{τ_i}^{τ_{i+1}} |F⁻¹(ω) − F⁻¹(τ̂_i)| dω, from the quantile function and taus [N + 1].

    Yang et al. 2019, the objective of proposition 1, by the midpoint rule with `points` points on either side of each
    τ̂_i, where the integrand has its kink.
    """
    total = 0.0
    for i in range(len(taus) - 1):
        low, high = float(taus[i]), float(taus[i + 1])
        middle = (low + high) / 2.0
        value = inverse_cdf(middle)
        for start, end in ((low, middle), (middle, high)):
            width = (end - start) / points
            for k in range(points):
                total += width * abs(inverse_cdf(start + (k + 0.5) * width) - value)
    return total


# Heads


def dueling(value: FloatArray | float, advantages: FloatArray) -> FloatArray:
    """v + a − mean over actions of a: Wang et al. 2016, equation 9; advantages [A] and a number, or [A, K] and [K]."""
    mean = sum(advantages[a] for a in range(len(advantages))) / len(advantages)
    return np.array([value + advantages[a] - mean for a in range(len(advantages))])


def noise(x: FloatArray) -> FloatArray:
    """f(x) = sign(x) √|x|, of each element: Fortunato et al. 2018, section 3, below equations 10 and 11."""
    return np.asarray(np.sign(x) * np.sqrt(np.abs(x)), np.float64)


def noisy_linear(
    x: FloatArray,
    mu_w: FloatArray,
    sigma_w: FloatArray,
    mu_b: FloatArray,
    sigma_b: FloatArray,
    eps_in: FloatArray,
    eps_out: FloatArray,
) -> FloatArray:
    """(μ_w + σ_w ε_w) x + μ_b + σ_b ε_b with factorised noise: Fortunato et al. 2018, equations 9 to 11.

    x [B, I]; mu_w, sigma_w [O, I]; mu_b, sigma_b [O]; eps_in [I] and eps_out [O] as drawn from the unit normal, before
    f; -> [B, O]. ε_w[o, i] = f(eps_out[o]) f(eps_in[i]) and ε_b[o] = f(eps_out[o]).
    """
    f_in, f_out = noise(eps_in), noise(eps_out)
    y = np.zeros((len(x), len(mu_b)))
    for b in range(len(x)):
        for o in range(len(mu_b)):
            y[b, o] = mu_b[o] + sigma_b[o] * f_out[o]
            for i in range(x.shape[1]):
                y[b, o] += (mu_w[o, i] + sigma_w[o, i] * f_out[o] * f_in[i]) * x[b, i]
    return y


# Replay and schedules


def priority_probabilities(priorities: FloatArray, alpha: float, uniform: float = 0.0) -> FloatArray:
    """P(i) = (1 − u) p_i^α / Σ p^α + u / M: [M] -> [M].

    Schaul et al. 2016, equation 1, mixed with the uniform distribution as DQN Zoo does. 0⁰ is 1: α = 0 is uniform. If
    no priority is above 0, all are equal.
    """
    size = len(priorities)
    powers = np.array([float(p) ** alpha for p in priorities])
    total = float(np.sum(powers))
    shares = powers / total if total > 0.0 else np.full(size, 1.0 / size)
    return np.asarray((1.0 - uniform) * shares + uniform / size, np.float64)


def importance_weights(probabilities: FloatArray, size: int, beta: float) -> FloatArray:
    """w = (M P)^−β over the batch's greatest w, from the drawn items' P [B] and the number M of items: -> [B].

    Schaul et al. 2016, section 3.4 and algorithm 1; the greatest weight is that of the batch.
    """
    weights = np.array([(size * float(p)) ** -beta for p in probabilities])
    return np.asarray(weights / np.max(weights), np.float64)
