"""Optimisers against their papers' formulas in double precision."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from pixelq.agents import AgentConfig, preset
from pixelq.agents.learning.optimizers import (
    CapturableRAdam,
    CentredRMSProp,
    drop_subnormals,
    gradients_of,
    limit_norm,
    load_optimizer_tensors,
    make_fraction_optimizer,
    make_optimizer,
    optimizer_tensors,
)

Weights = list[NDArray[np.float64]]
RMSPROP = AgentConfig(optimizer="rmsprop", learning_rate=2.5e-4, rmsprop_decay=0.95, rmsprop_epsilon=1e-5)
ADAM = AgentConfig(optimizer="adam", learning_rate=6.25e-5, adam_epsilon=1.5e-4)
RADAM = dataclasses.replace(ADAM, optimizer="radam")


def start_and_gradients(steps: int = 20) -> tuple[Weights, list[Weights]]:
    """Weights of three shapes, so small that float32 keeps their moves, and gradients from tiny ones to large ones."""
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (5,), (2, 3, 2)]
    scales = [1e-4, 1e-2, 3.0]
    start = [rng.normal(0, 1e-3, shape).astype(np.float32).astype(np.float64) for shape in shapes]
    return start, [
        [scale * (1 + rng.normal(size=shape)) for shape, scale in zip(shapes, scales, strict=True)]
        for _ in range(steps)
    ]


def centred_rmsprop(config: AgentConfig, w: Weights, gradients: list[Weights]) -> Weights:
    """Mnih et al. 2015, as in their program: the squared mean is taken off, and ε is under the root."""
    rho, epsilon = config.rmsprop_decay, config.rmsprop_epsilon
    m, v = [np.zeros_like(x) for x in w], [np.zeros_like(x) for x in w]
    for g in gradients:
        for i in range(len(w)):
            m[i] = rho * m[i] + (1 - rho) * g[i]
            v[i] = rho * v[i] + (1 - rho) * g[i] ** 2
            w[i] = w[i] - config.learning_rate * g[i] / np.sqrt(v[i] - m[i] ** 2 + epsilon)
    return w


def adam(config: AgentConfig, w: Weights, gradients: list[Weights]) -> Weights:
    """Kingma & Ba 2015, Algorithm 1; with decay, Loshchilov & Hutter 2019, Algorithm 2."""
    m, v = [np.zeros_like(x) for x in w], [np.zeros_like(x) for x in w]
    for t, g in enumerate(gradients, start=1):
        for i in range(len(w)):
            m[i] = 0.9 * m[i] + 0.1 * g[i]
            v[i] = 0.999 * v[i] + 0.001 * g[i] ** 2
            w[i] = w[i] - config.learning_rate * config.weight_decay * w[i]
            m_hat, v_hat = m[i] / (1 - 0.9**t), v[i] / (1 - 0.999**t)
            w[i] = w[i] - config.learning_rate * m_hat / (np.sqrt(v_hat) + config.adam_epsilon)
    return w


def radam(config: AgentConfig, w: Weights, gradients: list[Weights]) -> Weights:
    """Liu et al. 2020, Algorithm 2; with decay, Loshchilov & Hutter 2019, Algorithm 2."""
    m, v = [np.zeros_like(x) for x in w], [np.zeros_like(x) for x in w]
    longest = 2 / (1 - 0.999) - 1
    for t, g in enumerate(gradients, start=1):
        length = longest - 2 * t * 0.999**t / (1 - 0.999**t)
        for i in range(len(w)):
            m[i] = 0.9 * m[i] + 0.1 * g[i]
            v[i] = 0.999 * v[i] + 0.001 * g[i] ** 2
            w[i] = w[i] - config.learning_rate * config.weight_decay * w[i]
            step = m[i] / (1 - 0.9**t)
            if length > 5:
                upper = (length - 4) * (length - 2) * longest
                rectified = np.sqrt(upper / ((longest - 4) * (longest - 2) * length))
                step = step * rectified * np.sqrt(1 - 0.999**t) / (np.sqrt(v[i]) + config.adam_epsilon)
            w[i] = w[i] - config.learning_rate * step
    return w


def optimizer_of(config: AgentConfig, params: list[nn.Parameter]) -> torch.optim.Optimizer:
    assert isinstance(config.learning_rate, float)
    return make_optimizer(config, params, config.learning_rate)


def gpus_radam(params: list[nn.Parameter]) -> CapturableRAdam:
    return CapturableRAdam(params, torch.tensor(RADAM.learning_rate), RADAM.adam_epsilon, RADAM.weight_decay)


def parameters(values: Weights, dtype: torch.dtype) -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor(value, dtype=dtype)) for value in values]


def apply(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], gradients: list[Weights]) -> None:
    for step in gradients:
        for param, gradient in zip(params, step, strict=True):
            param.grad = torch.tensor(gradient, dtype=param.dtype)
        optimizer.step()


@pytest.mark.parametrize(
    ("config", "formula"),
    [
        (RMSPROP, centred_rmsprop),
        (ADAM, adam),
        (dataclasses.replace(ADAM, weight_decay=30.0), adam),
        (RADAM, radam),
        (dataclasses.replace(RADAM, weight_decay=30.0), radam),
    ],
    ids=["rmsprop", "adam", "adam with weight decay", "radam", "radam with weight decay"],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=str)
def test_twenty_steps_equal_the_formula(
    config: AgentConfig, formula: Callable[..., Weights], dtype: torch.dtype, tolerance: float
) -> None:
    if config.optimizer == "radam" and (config.weight_decay or dtype == torch.float32):
        tolerance = 1e-4  # 1 − αλ is float32, and the first steps are not divided by anything
    start, gradients = start_and_gradients()
    params = parameters(start, dtype)
    apply(optimizer_of(config, params), params, gradients)
    for param, before, expected in zip(params, start, formula(config, list(start), gradients), strict=True):
        moved = param.detach().double().numpy() - before
        np.testing.assert_allclose(moved, expected - before, atol=tolerance * np.abs(expected - before).max())


def test_adam_is_the_fused_one() -> None:
    assert optimizer_of(ADAM, parameters([np.zeros(2)], torch.float32)).defaults["fused"] is True


@pytest.mark.parametrize(("weight_decay", "scale"), [(0.0, None), (0.1, 3.0)])
def test_radam_of_a_gpu_is_pytorchs(weight_decay: float, scale: float | None) -> None:
    """PyTorch's in float64, since its float32 loses digits in the first steps."""
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in ((3, 4), (5,), ())]
    ours, theirs = (
        [nn.Parameter(each.to(dtype, copy=True)) for each in start] for dtype in (torch.float32, torch.float64)
    )
    one = CapturableRAdam(ours, torch.tensor(0.01), 1e-5, weight_decay)
    other = torch.optim.RAdam(theirs, lr=0.01, eps=1e-5, weight_decay=weight_decay, decoupled_weight_decay=True)
    one.grad_scale = None if scale is None else torch.tensor(scale)
    for _ in range(30):
        for mine, its in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            its.grad = mine.grad.double() / (scale or 1.0)
        one.step()
        other.step()
        for mine, its in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine.double(), its, rtol=0, atol=3e-6)
    assert all((its - before).abs().max() > 0.01 for its, before in zip(theirs, start, strict=True))
    tensors = optimizer_tensors(one)
    assert tensors.keys() == optimizer_tensors(other).keys()
    again = CapturableRAdam(ours, torch.tensor(0.01), 1e-5, weight_decay)
    load_optimizer_tensors(again, tensors)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in optimizer_tensors(again).items())


def test_radam_of_a_gpu_loads_its_steps_onto_the_device() -> None:
    optimizer = CapturableRAdam([nn.Parameter(torch.empty(2, device="meta"))], torch.tensor(0.01), 1e-5, 0.0)
    tensors = {"0.step": torch.tensor(3.0), "0.exp_avg": torch.zeros(2), "0.exp_avg_sq": torch.zeros(2)}
    load_optimizer_tensors(optimizer, tensors)
    assert {tensor.device.type for tensor in optimizer_tensors(optimizer).values()} == {"meta"}


def test_rmsprop_step_stays_finite_when_the_variance_rounds_below_zero() -> None:
    gradient = np.linspace(0.5, 1500, 1000)
    params = parameters([np.zeros(1000)], torch.float32)
    apply(optimizer_of(RMSPROP, params), params, [[gradient]] * 400)
    assert params[0].isfinite().all()
    assert (params[0] < 0).all()


def test_rmsprop_leaves_parameters_without_gradient_alone() -> None:
    params = parameters([np.ones(2), np.ones(3)], torch.float32)
    optimizer = CentredRMSProp(params, lr=0.1, decay=0.9, eps=0.01)
    params[1].grad = torch.ones(3)
    optimizer.step()
    assert params[0].tolist() == [1, 1]
    # m = 0.1, v = 0.1: the step is 0.1 / √(0.1 − 0.01 + 0.01)
    torch.testing.assert_close(params[1].detach(), torch.full((3,), 1 - 0.1 / 0.1**0.5))


@pytest.mark.parametrize("config", [RMSPROP, ADAM, RADAM], ids=["rmsprop", "adam", "radam"])
def test_state_as_tensors_continues_bit_for_bit(config: AgentConfig) -> None:
    start, gradients = start_and_gradients()
    params = parameters(start, torch.float32)
    optimizer = optimizer_of(config, params)
    apply(optimizer, params, gradients[:10])
    middle = [param.detach().double().numpy() for param in params]
    state: dict[str, Any] = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer).items()}
    assert len(state) == len(params) * (2 if config is RMSPROP else 3)
    apply(optimizer, params, gradients[10:])
    for _ in range(2):  # the second time shows whether the first changed the tensors that it was given
        again = parameters(middle, torch.float32)
        optimizer = optimizer_of(config, again)
        load_optimizer_tensors(optimizer, state)
        apply(optimizer, again, gradients[10:])
        assert all(torch.equal(a, b) for a, b in zip(params, again, strict=True))


@pytest.mark.parametrize("is_for_gpu", [False, True])
def test_radam_counts_the_steps_of_each_weight(is_for_gpu: bool) -> None:
    """A weight that has a gradient only from the eighth step on moves as one that begins then."""
    start, gradients = start_and_gradients()
    params = parameters(start, torch.float64)
    optimizer = gpus_radam(params) if is_for_gpu else optimizer_of(RADAM, params)
    apply(optimizer, params[1:], [step[1:] for step in gradients[:7]])
    assert params[0].tolist() == start[0].tolist()
    assert params[0] not in optimizer.state
    if is_for_gpu:  # and so it does in another optimiser, which has begun with all weights, but is given this state
        first, before = optimizer, params
        params = parameters(start, torch.float64)
        optimizer = gpus_radam(params)
        apply(optimizer, params, gradients[:1])
        load_optimizer_tensors(optimizer, optimizer_tensors(first))
        with torch.no_grad():
            for param, value in zip(params, before, strict=True):
                param.copy_(value)
    params, optimizer = copy.deepcopy((params, optimizer))  # as an agent is copied
    apply(optimizer, params, gradients[7:])
    late = radam(RADAM, start[:1], [step[:1] for step in gradients[7:]])
    early = radam(RADAM, start[1:], [step[1:] for step in gradients])
    for param, before, expected in zip(params, start, late + early, strict=True):
        moved = param.detach().numpy() - before
        np.testing.assert_allclose(moved, expected - before, atol=1e-6 * np.abs(expected - before).max())


def test_radam_goes_on_from_the_state_of_pytorchs() -> None:
    start, gradients = start_and_gradients()
    theirs, ours = parameters(start, torch.float32), parameters(start, torch.float32)
    optimizer = torch.optim.RAdam(theirs, lr=6.25e-5, eps=RADAM.adam_epsilon)
    apply(optimizer, theirs, gradients[:10])
    with torch.no_grad():
        for own, given in zip(ours, theirs, strict=True):
            own.copy_(given)
    fused = optimizer_of(RADAM, ours)
    load_optimizer_tensors(fused, {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer).items()})
    apply(optimizer, theirs, gradients[10:])
    apply(fused, ours, gradients[10:])
    for own, given in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, given, rtol=1e-5, atol=1e-8)


def test_fractions_learn_by_the_centred_rmsprop() -> None:
    optimizer = make_fraction_optimizer(AgentConfig(head="fqf"), [nn.Parameter(torch.zeros(3))])
    assert isinstance(optimizer, CentredRMSProp)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["decay"], group["eps"]) == (2.5e-9, 0.95, 1e-5)


def test_the_preset_fqf_moves_its_fractions_as_the_authors_program_does() -> None:
    """Their gradient is a sum over the batch and ε 1e-5; ours is a mean and ε smaller by 32²."""
    gradients = torch.linspace(-2e-3, 5e-3, 12).view(4, 3)  # of sums, so small that ε counts
    config = preset("fqf")
    ours, theirs = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    optimizers = make_fraction_optimizer(config, [ours]), CentredRMSProp([theirs], 2.5e-9, decay=0.95, eps=1e-5)
    for gradient in gradients:
        ours.grad, theirs.grad = gradient / config.batch_size, gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=0)
    assert theirs.abs().min() > 1e-10


@pytest.mark.parametrize(
    "changes",
    [{}, {"weight_decay": 0.1}, {"optimizer": "rmsprop"}, {"optimizer": "radam"}],
    ids=["adam", "adamw", "rmsprop", "radam"],
)
def test_a_limited_norm_is_a_step_with_scaled_gradients(changes: dict[str, Any]) -> None:
    config = AgentConfig(learning_rate=1e-2, **changes)
    weight, other = (torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    one, expected = optimizer_of(config, [weight]), optimizer_of(config, [other])
    # Of norms 5, 10 and 5, limited to 2.5: halved, quartered, and one within its limit.
    for gradient, limit, scale in (([3.0, 4.0], 2.5, 0.5), ([8.0, -6.0], 2.5, 0.25), ([-4.0, 3.0], 10.0, 1.0)):
        weight.grad = torch.tensor(gradient)
        other.grad = torch.tensor(gradient) * scale
        limit_norm(one, gradients_of(one), limit)
        one.step()
        expected.step()
        torch.testing.assert_close(weight, other, rtol=1e-6, atol=1e-7)
        for name, moment in expected.state[other].items():
            torch.testing.assert_close(one.state[weight][name], moment, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("config", [RMSPROP, ADAM], ids=["rmsprop", "adam"])
def test_moments_of_a_silent_weight_are_dropped_and_move_nothing(config: AgentConfig) -> None:
    """After its last gradient a first moment rounds to a number below 1.2e-38 for ever; without, to zero."""
    moment = "mean" if config is RMSPROP else "exp_avg"
    start = [np.array([0.5, 0.5])]
    gradients = [[np.array([1e-3, 1e-3])]] + [[np.array([0.0, 1e-3])]] * 2200
    kept, dropped = parameters(start, torch.float32), parameters(start, torch.float32)
    optimizer, other = optimizer_of(config, kept), optimizer_of(config, dropped)
    for first in range(0, len(gradients), 200):
        apply(optimizer, kept, gradients[first : first + 200])
        apply(other, dropped, gradients[first : first + 200])
        drop_subnormals(other)
        assert torch.equal(kept[0], dropped[0])
    assert 0 < optimizer.state[kept[0]][moment][0] < 1.2e-38
    assert other.state[dropped[0]][moment][0] == 0
    assert other.state[dropped[0]][moment][1] == optimizer.state[kept[0]][moment][1] > 1e-4


def test_what_is_dropped_ends_at_the_least_normal_number() -> None:
    param = nn.Parameter(torch.zeros(6))
    optimizer = optimizer_of(ADAM, [param])
    param.grad = torch.ones(6)
    optimizer.step()
    tiny = 2.0**-126
    optimizer.state[param]["exp_avg"] = torch.tensor([tiny, -tiny, tiny / 2, -tiny / 2, 2.0**-149, -3.0])
    drop_subnormals(optimizer)
    assert optimizer.state[param]["exp_avg"].tolist() == [tiny, -tiny, 0, 0, 0, -3]
    assert optimizer.state[param]["step"] == 1
