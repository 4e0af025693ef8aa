"""One update against stable-baselines3 and numpy, and the learner's promises."""

import dataclasses
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger
from torch import Tensor, nn

from pixelq.agents import DQN, AgentConfig, Batch
from pixelq.agents.acting.network import make_network
from pixelq.agents.learning.gradient import has_bfloat16
from pixelq.agents.learning.learner import Learner
from pixelq.agents.learning.resets import shrink_and_perturb
from pixelq.envs import make_vec
from pixelq.networks import QNetwork

GAMMA, ACTIONS, BATCH = 0.97, 5, 32
IMAGES = gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
VECTORS = gymnasium.spaces.Box(-np.inf, np.inf, (6,), np.float32)
SMALL = AgentConfig(encoder="mlp", hidden=16, learning_rate=1e-3)
State = dict[str, Tensor]


class Silent(gymnasium.Env[NDArray[Any], np.int64]):
    """What stable-baselines3 wants to see of an environment that is never stepped."""

    action_space = gymnasium.spaces.Discrete(ACTIONS)

    def __init__(self, observation_space: gymnasium.spaces.Box) -> None:
        self.observation_space = observation_space


@dataclasses.dataclass
class Transitions:
    """[B] transitions with every kind of ending; rewards reach both parts of the Huber loss."""

    obs: NDArray[Any]
    action: NDArray[np.int64]
    reward: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    next_obs: NDArray[Any]

    def batch(self) -> Batch:
        discount = np.where(self.terminated, 0, GAMMA).astype(np.float32)
        return Batch(*map(torch.from_numpy, (self.obs, self.action, self.reward, discount, self.next_obs)))


def transitions(space: gymnasium.spaces.Box, seed: int = 0) -> Transitions:
    rng = np.random.default_rng(seed)
    shape = (2, BATCH, *space.shape)
    drawn = rng.integers(256, size=shape, dtype=np.uint8) if space is IMAGES else rng.normal(0, 2, shape)
    obs, next_obs = drawn.astype(space.dtype)
    kind = np.arange(BATCH) % 4  # 0 terminated, 1 truncated, else neither
    reward = rng.uniform(-2, 2, BATCH).astype(np.float32)
    return Transitions(obs, rng.integers(ACTIONS, size=BATCH), reward, kind == 0, kind == 1, next_obs)


def learner_of(space: gymnasium.spaces.Box = VECTORS, config: AgentConfig = SMALL, seed: int = 0) -> Learner:
    """A learner whose target network is not its online network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner = Learner(make_network(space.shape, ACTIONS, config), config)
        learner.target_network.load_state_dict(make_network(space.shape, ACTIONS, config).state_dict())
    return learner


def gradients(network: nn.Module) -> State:
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def weights(network: nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_equal(one: State, two: State) -> None:
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


def sb3_update(space: gymnasium.spaces.Box, t: Transitions, **policy: Any) -> tuple[State, State, State, float]:
    """What stable-baselines3's DQN learns from the transitions: its weights, its target's, its gradients, its loss."""
    kind = "CnnPolicy" if space is IMAGES else "MlpPolicy"
    model = stable_baselines3.DQN(
        kind,
        Silent(space),
        gamma=GAMMA,
        buffer_size=BATCH,
        max_grad_norm=float("inf"),
        policy_kwargs=policy,
        seed=1,
        device="cpu",
    )
    with torch.no_grad():
        for parameter in model.q_net_target.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    buffer = model.replay_buffer
    assert buffer is not None
    for i in range(BATCH):
        info = {"TimeLimit.truncated": bool(t.truncated[i])}
        done = t.terminated[i : i + 1] | t.truncated[i : i + 1]
        buffer.add(t.obs[i : i + 1], t.next_obs[i : i + 1], t.action[i : i + 1], t.reward[i : i + 1], done, [info])
    buffer.sample = lambda batch_size, env=None: buffer._get_samples(np.arange(batch_size), env)  # type: ignore[method-assign]
    model.set_logger(Logger(None, []))
    before, target = weights(model.q_net), weights(model.q_net_target)
    model.train(gradient_steps=1, batch_size=BATCH)
    return before, target, gradients(model.q_net), model.logger.name_to_value["train/loss"]


NATURE_NAMES = {
    **{f"features_extractor.cnn.{layer}": f"encoder.convolutions.{layer}" for layer in (0, 2, 4)},
    "features_extractor.linear.0": "head.streams.advantage.hidden",
    "q_net.0": "head.streams.advantage.out",
}
MLP_NAMES = {
    "q_net.0": "encoder.layers.0",
    "q_net.2": "head.streams.advantage.hidden",
    "q_net.4": "head.streams.advantage.out",
}


@pytest.mark.parametrize(
    ("space", "config", "names", "net_arch"),
    [
        (IMAGES, AgentConfig(encoder="nature", hidden=512), NATURE_NAMES, []),
        (VECTORS, AgentConfig(encoder="mlp", hidden=32), MLP_NAMES, [32, 32]),
    ],
    ids=["nature", "mlp"],
)
def test_loss_and_every_gradient_equal_stable_baselines3(
    space: gymnasium.spaces.Box, config: AgentConfig, names: dict[str, str], net_arch: list[int]
) -> None:
    def renamed(tensors: State) -> State:
        return {
            f"{ours}.{kind}": tensors[f"{theirs}.{kind}"]
            for theirs, ours in names.items()
            for kind in ("weight", "bias")
        }

    t = transitions(space)
    before, target, their_gradients, their_loss = sb3_update(space, t, net_arch=net_arch)
    assert len(their_gradients) == len(before) == 2 * len(names)
    learner = learner_of(space, dataclasses.replace(config, gamma=GAMMA))
    learner.network.load_state_dict(renamed(before))
    learner.target_network.load_state_dict(renamed(target))
    update = learner.update(t.batch())
    assert update.loss.item() == pytest.approx(their_loss, rel=1e-5)
    ours, theirs = gradients(learner.network), renamed(their_gradients)
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert theirs[name].abs().max() > 1e-3
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-5, atol=1e-5 * theirs[name].abs().max().item())


def forward(network: QNetwork, obs: NDArray[np.float32], dueling: bool) -> NDArray[np.float64]:
    """Values [B, A] of the small MLP in double precision."""
    w = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}

    def linear(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def stream(name: str) -> NDArray[np.float64]:
        return linear(f"{name}.out", np.maximum(linear(f"{name}.hidden", features), 0))

    features = np.maximum(linear("encoder.layers.0", obs.astype(np.float64)), 0)
    q = stream("head.streams.advantage")
    return stream("head.streams.state_value") + q - q.mean(1, keepdims=True) if dueling else q


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("loss", ["huber", "squared"])
@pytest.mark.parametrize("double", [False, True])
def test_loss_equals_numpy(double: bool, loss: str, dueling: bool) -> None:
    config = dataclasses.replace(SMALL, double=double, loss=loss, dueling=dueling)  # type: ignore[arg-type]
    learner, t = learner_of(config=config), transitions(VECTORS)
    q, online_next = (forward(learner.network, x, dueling) for x in (t.obs, t.next_obs))
    target_next = forward(learner.target_network, t.next_obs, dueling)
    rows = np.arange(BATCH)
    chosen = online_next.argmax(1) if double else target_next.argmax(1)
    assert (online_next.argmax(1) != target_next.argmax(1)).sum() >= 5  # the two rules disagree here
    error = t.reward + GAMMA * ~t.terminated * target_next[rows, chosen] - q[rows, t.action]
    assert (np.abs(error) > 1).sum() >= 5
    assert (np.abs(error) < 1).sum() >= 5
    huber = np.where(np.abs(error) <= 1, error**2 / 2, np.abs(error) - 0.5)
    update = learner.update(t.batch())
    assert update.loss.item() == pytest.approx((huber if loss == "huber" else error**2).mean(), rel=1e-5)
    assert update.q_mean.item() == pytest.approx(q[rows, t.action].mean(), rel=1e-5)
    assert not update.loss.requires_grad
    assert not update.q_mean.requires_grad


def test_the_target_network_learns_nothing_and_is_copied_exactly() -> None:
    learner = learner_of()
    online, target = weights(learner.network), weights(learner.target_network)
    for seed in range(3):
        learner.update(transitions(VECTORS, seed).batch())
    assert all(p.grad is None and not p.requires_grad for p in learner.target_network.parameters())
    assert_equal(weights(learner.target_network), target)
    assert all(not torch.equal(tensor, online[name]) for name, tensor in learner.network.state_dict().items())
    learner.sync_target()
    copied = weights(learner.network)
    assert_equal(weights(learner.target_network), copied)
    learner.update(transitions(VECTORS).batch())
    assert_equal(weights(learner.target_network), copied)  # a copy, not the same tensors


def test_a_new_learner_starts_with_equal_networks_of_their_own() -> None:
    network = make_network(VECTORS.shape, ACTIONS, SMALL)
    learner = Learner(network, SMALL)
    assert learner.network is network
    assert_equal(weights(network), weights(learner.target_network))
    assert not {p.data_ptr() for p in network.parameters()} & {
        p.data_ptr() for p in learner.target_network.parameters()
    }


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_tensors_put_back_make_the_next_updates_bit_identical(optimizer: str) -> None:
    config = dataclasses.replace(SMALL, optimizer=optimizer, double=True)  # type: ignore[arg-type]
    learner = learner_of(config=config)
    for seed in range(3):
        learner.update(transitions(VECTORS, seed).batch())
    online = weights(learner.network)
    tensors = {name: tensor.clone() for name, tensor in learner.tensors().items()}
    expected = [learner.update(transitions(VECTORS, seed).batch()) for seed in (3, 4)]
    for _ in range(2):  # the second time shows whether the first changed the tensors that it was given
        again = learner_of(config=config, seed=9)
        again.network.load_state_dict(online)
        again.load_tensors(tensors)
        updates = [again.update(transitions(VECTORS, seed).batch()) for seed in (3, 4)]
        for update, other in zip(updates, expected, strict=True):
            assert all(torch.equal(one, two) for one, two in zip(update, other, strict=True))
        assert_equal(weights(again.network), weights(learner.network))
        assert_equal(again.tensors(), learner.tensors())


def test_max_grad_norm_limits_the_norm_and_keeps_the_direction() -> None:
    def after_update(limit: float | None) -> Tensor:
        learner = learner_of(config=dataclasses.replace(SMALL, max_grad_norm=limit))
        learner.update(transitions(VECTORS).batch())
        return torch.cat([gradient.flatten() for gradient in gradients(learner.network).values()])

    free = after_update(None)
    norm = free.norm().item()
    assert norm > 0.1
    limited = after_update(norm / 10)
    assert limited.norm().item() == pytest.approx(norm / 10, rel=1e-4)
    torch.testing.assert_close(limited * 10, free, rtol=1e-4, atol=1e-6)
    assert torch.equal(after_update(norm * 10), free)


def test_bfloat16_is_close_and_the_parameters_stay_float32() -> None:
    batch = transitions(IMAGES).batch()
    losses = []
    for precision in ("float32", "bfloat16", "auto"):
        config = AgentConfig(encoder="nature", hidden=64, precision=precision)
        learner = learner_of(IMAGES, config)
        before = weights(learner.network)
        update = learner.update(batch)
        assert update.loss.dtype == torch.float32
        losses.append(update.loss.item())
        kept = [*learner.network.parameters(), *learner.target_network.parameters()]
        kept += [*gradients(learner.network).values(), *learner.tensors().values()]
        kept = [tensor for tensor in kept if tensor.dtype != torch.uint8]  # the generator's state
        assert {tensor.dtype for tensor in kept} == {torch.float32}
        assert all(not torch.equal(tensor, before[name]) for name, tensor in learner.network.state_dict().items())
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]
    assert losses[2] == losses[has_bfloat16(torch.device("cpu"))]


def test_updates_reach_the_values_of_a_known_process() -> None:
    # One state, whose action 0 is worth 1 and goes on with γ ½, and whose other actions end and are worth nothing.
    config = dataclasses.replace(SMALL, hidden=32, learning_rate=3e-3)
    learner = learner_of(config=config)
    obs, action = torch.ones(ACTIONS, 6), torch.arange(ACTIONS)
    batch = Batch(obs, action, (action == 0).float(), 0.5 * (action == 0), obs)
    for step in range(600):
        learner.update(batch)
        if step % 30 == 0:
            learner.sync_target()
    torch.testing.assert_close(learner.network.q(obs[:1])[0], torch.tensor([2.0, 0, 0, 0, 0]), rtol=0, atol=0.02)


def test_subnormal_moments_are_dropped_after_every_200th_update() -> None:
    learner = learner_of()
    learner.update(transitions(VECTORS).batch())
    moments = [tensor for name, tensor in learner.tensors().items() if name.endswith("exp_avg")]
    for updates, left in ((199, 1e-40), (200, 0.0), (201, 1e-40), (1000, 0.0)):
        for moment in moments:
            moment.fill_(1e-40)
        learner.drop_subnormals(updates)
        expected = pytest.approx(left, rel=1e-4, abs=0)
        assert [moment.unique().tolist() for moment in moments] == [[expected]] * len(moments)


def test_a_reset_keeps_the_learning_rate() -> None:
    config = AgentConfig(encoder="mlp", hidden=16, learning_rate=3e-4)
    learner = Learner(make_network((6,), 3, config, 1), config)
    learner.set_learning_rate(7e-5)
    learner.reset(make_network((6,), 3, config, 2))
    assert learner.learning_rate == pytest.approx(7e-5)


def test_vectors_of_spectral_normalisation_move_with_their_weights() -> None:
    config = AgentConfig(encoder="impala", spectral_norm=True, hidden=8, frame_stack=2, target_tau=0.1)

    def network(seed: int) -> QNetwork:
        return make_network((2, 24, 24), 3, config, seed, is_pixels=True)

    def vectors(network: nn.Module) -> list[Tensor]:
        return [buffer.clone() for name, buffer in network.named_buffers() if name.endswith(".v")]

    learner, fresh = Learner(network(1), config), network(2)
    with torch.no_grad():
        for buffer in learner.network.buffers():
            buffer.add_(0.01)
    learner.soft_update_target(0.1)
    assert len(vectors(learner.network)) == 12
    assert all(map(torch.equal, vectors(learner.target_network), vectors(learner.network)))
    shrink_and_perturb(learner.network, fresh, 0.5)
    assert all(map(torch.equal, vectors(learner.network), vectors(fresh)))


def test_options_of_the_head_change_in_the_target_network_too() -> None:
    spaces = gymnasium.spaces.Box(-1, 1, (3,)), gymnasium.spaces.Discrete(2)
    agent = DQN(*spaces, AgentConfig(hidden=8, head="implicit", tau_samples_policy=4), device="cpu")
    agent.replace(tau_samples_policy=9)
    heads: Any = agent.learner.target_network.head, agent.network.head  # type: ignore[attr-defined]
    assert [head.policy_samples for head in heads] == [9, 9]


def test_the_target_network_is_copied_at_its_period(monkeypatch: pytest.MonkeyPatch) -> None:
    envs = make_vec("pixelq/Catch-v0", 1, 0)
    config = AgentConfig(hidden=8, encoder="mlp", learning_starts=40, batch_size=4, replay_capacity=400,
                         target_update_every=20)  # fmt: skip
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    learner: Any = agent.learner
    copied, copy = [], learner.sync_target
    monkeypatch.setattr(learner, "sync_target", lambda: (copied.append(agent.step), copy()))
    agent.learn(envs, 120)
    assert copied == [40, 60, 80, 100, 120]
