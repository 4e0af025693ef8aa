"""`compile_update`: the compiled passes and losses of an update are those of the eager one."""

import copy
import dataclasses
import pickle
from functools import partial
from typing import Any

import pytest
import torch

from pixelq.agents import PQN, AgentConfig, InvalidConfig, preset
from pixelq.agents.agent import Agent
from pixelq.agents.experience.rollout import Minibatch
from pixelq.agents.learning.cuda_graph import update_from_replay
from tests.support.small_agents import ACTIONS, PIXELS, SMALL, filled, small

CONFIGS = {
    "scalar": AgentConfig(**SMALL),
    "double prioritized": AgentConfig(**SMALL, double=True, prioritized=True, loss="huber"),
    "rainbow": small(preset("rainbow")),
    "iqn": small(preset("iqn")),
    "pqn": small(preset("pqn")),
    "pqn_hl_gauss": small(preset("pqn_hl_gauss")),
}
TRACED = ("scalar", "pqn")
"""Those of which a short run compares the trace, which is run by the eager operations; compiling takes minutes."""


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        *((name, "aot_eager") for name in TRACED),
        *(pytest.param(name, "inductor", marks=pytest.mark.slow) for name in CONFIGS),
    ],
)
def test_compiled_updates_learn_the_same(name: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 20 updates the weights lie apart by less than 0.1% of how far they moved; sums are in another order."""
    torch._dynamo.reset()
    made: list[Any] = []
    compiler = torch.compile

    def compile_(function: Any, **options: Any) -> Any:
        made.append(compiler(function, backend=backend, **options))
        return made[-1]

    monkeypatch.setattr(torch, "compile", compile_)
    config = CONFIGS[name]
    runs = []
    for is_compiled in (True, False):
        runs.append(learned(dataclasses.replace(config, compile_update=is_compiled)))
        assert len(made) == 1
    (start, compiled, losses), (same_start, eager, eager_losses) = runs
    assert torch.equal(start, same_start)
    torch.testing.assert_close(losses, eager_losses, rtol=1e-3, atol=1e-5)
    assert (compiled - eager).norm() < 1e-3 * (eager - start).norm()


def learned(config: AgentConfig) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights before and after 20 updates, and the losses of the updates."""
    if config.algorithm == "pqn":
        agent: Agent = PQN(PIXELS, ACTIONS, config, device="cpu", seed=0)
        rng = torch.Generator().manual_seed(0)
        obs = torch.randint(256, (8, *PIXELS.shape), generator=rng, dtype=torch.uint8)
        target, is_step = torch.randn(8, generator=rng), torch.ones(8, dtype=torch.bool)
        batch = Minibatch(obs, torch.randint(3, (8,), generator=rng), target, is_step)
        update = partial(agent.learner.update, batch)
    else:
        agent = filled(config)
        update = partial(update_from_replay, agent.learner, agent.replay)  # type: ignore[arg-type]
    start = weights(agent)
    losses = torch.stack([update().loss for _ in range(20)])
    return start, weights(agent), losses


def weights(agent: Agent) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in agent.network.parameters()])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda agent: pickle.loads(pickle.dumps(agent))])
def test_a_copy_learns_by_itself(copied: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    agent = filled(AgentConfig(**SMALL, compile_update=True))
    update_from_replay(agent.learner, agent.replay)  # type: ignore[arg-type]
    other, before = copied(agent), weights(agent)
    update_from_replay(other.learner, other.replay)
    assert torch.equal(weights(agent), before)
    assert not torch.equal(weights(other), before)
    update_from_replay(agent.learner, agent.replay)  # type: ignore[arg-type]
    assert torch.equal(weights(agent), weights(other))


def test_what_cannot_be_compiled_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(*_: Any) -> Any:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    agent = filled(AgentConfig(**SMALL, compile_update=True))
    with pytest.raises(InvalidConfig, match=r"compile_update is True, but .*no compiler here"):
        update_from_replay(agent.learner, agent.replay)  # type: ignore[arg-type]
    agent.replace(compile_update=False)
    assert update_from_replay(agent.learner, agent.replay).loss.isfinite()  # type: ignore[arg-type]
