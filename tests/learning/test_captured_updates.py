"""Updates in graphs, one or several at a time, on a CPU: a graph that computes again what it was given stands in."""

import copy
import dataclasses
import gc
import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from pixelq.agents import DQN, PQN, PRESETS, AgentConfig, preset
from pixelq.agents.experience.rollout import Drawn, Rollout
from pixelq.agents.learning import cuda_graph
from pixelq.agents.learning.cuda_graph import (
    EAGER_UPDATES,
    UPDATES_PER_GRAPH,
    Capture,
    CapturedUpdate,
    CapturedUpdates,
    Side,
    make_rollout_update,
    make_updates,
    update_from_replay,
    update_from_rollout,
    without_collection,
)
from pixelq.agents.learning.gradient import Gradients, Update
from pixelq.agents.learning.optimizers import CapturableRAdam
from pixelq.envs import make_vec
from pixelq.scripts.benchmarks.operations import Operations
from tests.support.cases import representative
from tests.support.small_agents import ACTIONS, PIXELS, SMALL, filled, small


class Graph:
    """Computes an update again, from the tensors that it read, into those that it wrote."""

    def __init__(self, captured: CapturedUpdate, inputs: tuple[Tensor, ...]) -> None:
        self.captured, self.inputs, self.replays = captured, inputs, 0
        self.result = Update(*(torch.empty(0) for _ in range(3)))
        limit = captured.learner.config.max_grad_norm
        self.gradients = Gradients([], None if limit is None else torch.zeros(()))

    def replay(self) -> None:
        self.replays += 1
        before = self.captured.learner.gradients
        for kept, new in zip(self.result, self.captured.update(*self.inputs), strict=True):
            kept.resize_(new.shape).copy_(new)
        learned = self.captured.learner.gradients
        assert learned is not None
        self.gradients.parts[:] = learned.parts
        if learned.norm is not None and self.gradients.norm is not None:
            self.gradients.norm.copy_(learned.norm)
        self.captured.learner.gradients = before  # a real graph runs no Python


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """The graphs that are captured in a test."""
    made: list[Graph] = []

    def capture(self: CapturedUpdate, inputs: tuple[Tensor, ...]) -> Capture:
        graph = Graph(self, tuple(tensor.clone() for tensor in inputs))
        made.append(graph)
        return Capture(graph, graph.inputs, graph.result, graph.gradients)  # type: ignore[arg-type]

    monkeypatch.setattr(cuda_graph, "can_capture", lambda learner: learner.config.cuda_graph)
    monkeypatch.setattr(CapturedUpdate, "_capture", capture)
    monkeypatch.setattr(Side, "run", lambda self, update: update())
    return made


def assert_same_agent(one: DQN | PQN, other: DQN | PQN) -> None:
    assert one.updates == other.updates > 0
    for name, tensor in one.learner.tensors().items():
        assert torch.equal(tensor, other.learner.tensors()[name]), name
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, other.network.state_dict()[name]), name


@pytest.mark.parametrize(
    "fields",
    [
        {"train_every": 1},
        {"train_every": 4, "gradient_steps": 3},
        {"train_every": 1, "prioritized": True, "target_tau": 0.1},
        {"train_every": 2, "noisy": True, "max_grad_norm": 0.5, "reset_every": 61},
    ],
    ids=" ".join,
)
def test_several_updates_in_a_graph_are_the_same_training(fields: dict[str, Any], graphs: list[Graph]) -> None:
    agents = []
    for captured in (True, False):
        config = AgentConfig(
            **{"learning_starts": 40, "replay_capacity": 1000, "batch_size": 8, "hidden": 16, "learning_rate": 1e-3},
            **{"target_update_every": 60, "encoder": "mlp", "cuda_graph": captured},
            **fields,
        )
        envs = make_vec("CartPole-v1", num_envs=20, seed=1)
        agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=2)
        agents.append(agent.learn(envs, 400))
        envs.close()
    one, other = agents
    assert_same_agent(one, other)
    assert one.learner.grad_norm() == other.learner.grad_norm()
    of_several = sum(graph.replays for graph in graphs if graph.result.loss.shape == (UPDATES_PER_GRAPH,))
    of_one = sum(graph.replays for graph in graphs if graph.result.loss.shape == ())
    assert of_several > 3
    if config.reset_every is None:  # all others were run before there was a graph
        assert 0 <= one.updates - UPDATES_PER_GRAPH * (of_several + EAGER_UPDATES) - of_one <= EAGER_UPDATES


def test_the_results_of_several_updates_are_those_of_each(graphs: list[Graph]) -> None:
    one, other = (filled(AgentConfig(**SMALL, prioritized=True)) for _ in range(2))
    assert one.replay is not None
    assert other.replay is not None
    updates = make_updates(one.learner, one.replay)
    assert isinstance(updates, CapturedUpdates)
    found: list[Update] = []
    for count in (3, 8, 8, 0, 8, 19, 8, 1, 27):
        before = len(found)
        found += updates(count)
        assert len(found) == before + count
    expected = [update_from_replay(other.learner, other.replay) for _ in found]
    assert len(graphs) == 2
    for name in ("loss", "q_mean"):
        for update, alone in zip(found, expected, strict=True):
            assert torch.equal(getattr(update, name), getattr(alone, name))
    assert make_updates(one.learner, one.replay) is updates  # a second training captures nothing anew
    assert torch.equal(one.replay.sampler.tree.leaves, other.replay.sampler.tree.leaves)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "fields",
    [{}, {"overlap": True, "noisy": True}, {"kept_rollouts": 4, "past_rollouts": 2}, {"lstm": 8}],
    ids=lambda fields: " ".join(fields),
)
def test_captured_minibatches_are_the_same_training(fields: dict[str, Any], graphs: list[Graph]) -> None:
    """With minibatches of two sizes, each of which has its own graph."""
    agents, norms = [], []
    for captured in (True, False):
        config = dataclasses.replace(
            preset("pqn"), encoder="mlp", hidden=16, learning_starts=1, rollout_length=7, minibatches=2, epochs=3,
            frame_stack=1, cuda_graph=captured, **fields,
        )  # fmt: skip
        envs = make_vec("CartPole-v1", num_envs=5, seed=1)
        agent = PQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=2)
        for _ in range(4):
            agent.learn(envs, 175)
            norms.append(agent.learner.grad_norm())
        agents.append(agent)
        envs.close()
    assert_same_agent(*agents)
    assert norms[:4] == norms[4:]
    rows = {graph.inputs[0].numel() for graph in graphs}
    assert rows == ({14, 21} if "lstm" in fields else {17, 18})
    assert all(graph.replays > 10 for graph in graphs[:2])


@pytest.mark.parametrize(
    "name", representative([name for name in PRESETS if preset(name).algorithm == "pqn"], keep={"quick", "pqn_lstm"})
)
def test_an_update_from_a_rollout_has_the_same_operations_each_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for updates from a replay (test_updates.py), for a minibatch that is copied to where the graph reads it."""
    monkeypatch.setattr("pixelq.networks.lstm.is_capturing", lambda x: True)
    config = small(preset(name), rollout_length=6, minibatches=2, epochs=2)
    agent = PQN(PIXELS, ACTIONS, config, device="cpu")
    (optimizer,) = agent.learner.optimizers.values()
    group = optimizer.param_groups[0]
    rate = group["lr"], group["eps"], group["weight_decay"]
    agent.learner.optimizers["optimizer"] = CapturableRAdam(group["params"], *rate)  # which a GPU has
    rollout, rng = agent.make_replay(4, config.frame_stack), np.random.default_rng(0)
    assert isinstance(rollout, Rollout)
    tapes, kept = [], None
    for step in range(4 * 6 + 1):
        rollout.observe(rng.integers(256, size=(4, *PIXELS.shape), dtype=np.uint8))
        agent.act(rollout.latest(), 0.0)
        if rollout.is_complete:
            target = rollout.targets(0.9, config.td_lambda, None)
            for drawn in rollout.draw(target, 2, 2):
                kept = kept or Drawn(*(field if field is None else field.clone() for field in drawn))
                for field, new in zip(kept, drawn, strict=True):
                    if field is not None and new is not None:
                        field.copy_(new)
                agent.learner.set_learning_rate(1e-4 / (step + 1))
                with Operations() as tape:
                    update_from_rollout(agent.learner, rollout, kept)
                tapes.append(tape)
            rollout.begin()
        ended = rng.random((2, 4)) < 0.1
        rollout.complete(rng.integers(3, size=4), rng.normal(size=4), ended[0], ended[1] & ~ended[0])
    assert len(tapes) == 16
    later = [tape for tape in tapes if tape.waits == []][-10:]
    assert later == tapes[-10:]
    assert len(later[0].noted) > 50
    assert all(tape.noted == later[0].noted for tape in later)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda agent: pickle.loads(pickle.dumps(agent))])
def test_a_copy_of_an_agent_captures_anew(copied: Any, graphs: list[Graph]) -> None:
    agent = filled(AgentConfig(**SMALL))
    assert agent.replay is not None
    list(make_updates(agent.learner, agent.replay)(EAGER_UPDATES + 1))
    assert len(graphs) == 1
    other = copied(agent)
    assert other.learner.captured is None
    for each in (agent, other):
        each.updates = 2 * EAGER_UPDATES + 2
        list(make_updates(each.learner, each.replay)(EAGER_UPDATES + 1))
    assert [graph.captured.learner for graph in graphs] == [agent.learner, other.learner]
    assert_same_agent(agent, other)


def test_each_size_of_minibatch_is_run_before_it_is_captured(graphs: list[Graph]) -> None:
    agent = filled(AgentConfig(**SMALL))
    sizes: list[int] = []

    def update(rows: Tensor) -> Update:
        sizes.append(len(rows))
        return Update(rows.sum(), rows.sum(), rows)

    captured = CapturedUpdate(agent.learner, update, ())
    agent.learner.gradients = Gradients([], None)
    for rows in (4, 4, 4, 4, 5, 5):
        captured(torch.ones(rows))
    assert [len(graph.inputs[0]) for graph in graphs] == [4]
    for _ in range(2):
        captured(torch.ones(5))
    assert [len(graph.inputs[0]) for graph in graphs] == [4, 5]
    assert sizes == [4, 4, 4, 4, 5, 5, 5, 5]


def test_a_capture_is_not_disturbed_by_garbage() -> None:
    """The end of another graph during a capture would invalidate it."""
    with without_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with without_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_cannot_be_captured_is_not() -> None:
    agent = PQN(gymnasium.spaces.Box(-1, 1, (3,)), ACTIONS, small(preset("pqn"), encoder="mlp"), device="cpu")
    rollout = agent.make_replay(2, 1)
    assert isinstance(rollout, Rollout)
    make_rollout_update(agent.learner, rollout)
    assert agent.learner.captured is None
    agent.learner.device = torch.device("cuda")  # nothing is captured before it is called
    make_rollout_update(agent.learner, rollout)
    captured = agent.learner.captured
    assert isinstance(captured[1], CapturedUpdate)
    make_rollout_update(agent.learner, rollout)
    assert agent.learner.captured is captured
    agent.learner.captured = None
    agent.learner.reduce = lambda sums: None
    make_rollout_update(agent.learner, rollout)
    assert agent.learner.captured is None
