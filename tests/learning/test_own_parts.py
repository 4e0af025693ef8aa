"""Encoders, heads and target rules of one's own: they learn as built-in ones do, and wrong ones get a sentence."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pixelq.agents import (
    DQN,
    AgentConfig,
    InvalidCheckpoint,
    InvalidConfig,
    Policy,
    load,
    register_encoder,
    register_head,
    register_target,
)
from pixelq.agents.acting.network import make_network
from pixelq.agents.config import parts
from pixelq.agents.insight.activations import feature_maps, last_hidden
from pixelq.agents.learning import cuda_graph
from pixelq.envs import make_vec
from pixelq.networks import HeadLoss, among_allowed, pixels_to_float
from tests.support.own_parts import EQUAL, OWN, FlatEncoder, PlainHead, register_all
from tests.support.small_agents import ACTIONS, PIXELS, filled, small

VECTORS = gymnasium.spaces.Box(-1, 1, (6,))
TINY = AgentConfig(hidden=8, replay_capacity=200, batch_size=8, learning_starts=20, train_every=4)
MEMORY = {"lstm": 4, "lstm_last_action": True, "sequence_length": 8, "sequence_period": 4, "burn_in": 2}


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_REGISTERED", {"encoder": {}, "head": {}, "target": {}})
    register_all()


def learned(steps: int = 48, module: nn.Module | None = None, **fields: Any) -> DQN:
    envs = make_vec("pixelq/Catch-v0", 2, seed=0)
    config = dataclasses.replace(TINY, **({"encoder": "mlp"} | fields))
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=3, encoder=module)
    return agent.learn(envs, steps)


def weights_of(agent: DQN) -> list[Tensor]:
    networks = (agent.network, agent.learner.target_network)
    return [tensor.clone() for network in networks for tensor in network.state_dict().values()]


def assert_same(one: DQN, other: DQN) -> None:
    assert one.updates == other.updates > 0
    for tensor, same in zip(weights_of(one), weights_of(other), strict=True):
        assert torch.equal(tensor, same)


@pytest.mark.parametrize(
    "fields",
    [{}, {"prioritized": True, "max_grad_norm": 1.0, "reset_every": 4, "n_step": 2}, MEMORY],
    ids=["plain", "many", "memory"],
)
@pytest.mark.parametrize("kind", ["encoder", "head", "target"])
def test_a_part_that_equals_a_built_in_one_learns_the_same_to_the_bit(kind: str, fields: dict[str, Any]) -> None:
    built_in = learned(**(EQUAL[kind] | fields))
    assert_same(learned(**(OWN[kind] | fields)), built_in)


def test_a_target_rule_draws_the_noise_that_double_dqn_draws() -> None:
    assert_same(learned(noisy=True, target="twin"), learned(noisy=True, double=True))


@pytest.mark.parametrize("masked", [False, True])
def test_a_target_rule_is_given_the_values_of_both_networks_at_both_states(masked: bool) -> None:
    seen: list[Any] = []

    @register_target("spy")
    def spy(inputs: Any) -> tuple[Tensor, Tensor]:
        seen.append((inputs, inputs.next_q, inputs.next_q_online, inputs.q, inputs.q_online))
        return inputs.reward + 1, inputs.next_q.softmax(1)

    agent = filled(small(TINY, target="spy"))
    with torch.no_grad():
        for weight in agent.learner.target_network.parameters():
            weight.add_(0.01)
    assert agent.replay is not None
    batch = agent.replay.sample(8)
    if masked:
        masks = (torch.rand(2, 8, 3, generator=torch.Generator().manual_seed(0)) < 0.5).index_fill(
            2, torch.tensor(1), 1
        )
        batch = batch._replace(mask=masks[0], next_mask=masks[1])
    online, target = agent.network, agent.learner.target_network
    with torch.no_grad():
        expected = [target.q(batch.next_obs), online.q(batch.next_obs), target.q(batch.obs), online.q(batch.obs)]
        masks_of = [batch.next_mask, batch.next_mask, batch.mask, batch.mask]
        expected = [among_allowed(q, mask) for q, mask in zip(expected, masks_of, strict=True)]
    agent.learner.update(batch)
    assert masked == any(q.isinf().any() for q in expected)
    inputs, *values = seen[-1]
    assert [torch.equal(value, q) for value, q in zip(values, expected, strict=True)] == [True] * 4
    assert all(getattr(inputs, name) is getattr(batch, name) for name in ("action", "reward", "discount"))
    assert (inputs.mask is batch.mask, inputs.next_mask is batch.next_mask) == (True, True)
    assert (inputs.config, inputs.generator) == (agent.config, agent.learner.generator)


def test_the_target_rule_of_a_living_agent_can_be_changed() -> None:
    register_target("broken", lambda inputs: inputs.nothing)
    one, other = (filled(small(TINY, **fields)) for fields in ({"double": True}, {}))
    with pytest.raises(InvalidConfig, match="the target rule broken cannot be computed"):
        other.replace(target="broken")
    assert (other.config.target, other.learner.rule) == (None, None)
    other.replace(target="twin")
    for agent in (one, other):
        assert agent.replay is not None
        for _ in range(3):
            agent.learner.update(agent.replay.sample(8))
            agent.updates += 1
    assert_same(one, other)


def frozen_then_linear() -> nn.Module:
    frozen = nn.Linear(50, 6).requires_grad_(False)
    return nn.Sequential(nn.Flatten(), Scaled(), frozen, nn.ReLU(), nn.Linear(6, 5))


class Scaled(nn.Module):
    def forward(self, obs: Tensor) -> Tensor:
        return pixels_to_float(obs)


@pytest.mark.parametrize("fields", [{}, MEMORY], ids=["plain", "memory"])
def test_frozen_weights_stay_and_the_others_learn(fields: dict[str, Any]) -> None:
    module = frozen_then_linear()
    before = copy.deepcopy(module.state_dict())
    agent = learned(module=module, **fields)
    encoder = agent.network.encoder
    start = DQN(agent.observation_space, ACTIONS, agent.config, device="cpu", seed=3, encoder=module)
    moved = {
        name: not torch.equal(weight, start.network.state_dict()[name])
        for name, weight in agent.network.named_parameters()
    }
    assert {name for name, has_moved in moved.items() if not has_moved} == {"encoder.2.weight", "encoder.2.bias"}
    frozen = [weight for weight in agent.network.parameters() if not weight.requires_grad]
    learning = [weight for group in agent.learner.optimizers["optimizer"].param_groups for weight in group["params"]]
    assert len(frozen) == 2
    assert not {id(weight) for weight in frozen} & {id(weight) for weight in learning}
    # The agent learned with a copy.
    assert encoder is not module
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())
    assert agent.network.encoder.out_features == 5


def test_an_encoder_without_weights_to_learn_passes_gradient_to_the_memory() -> None:
    agent = learned(module=frozen_then_linear().requires_grad_(False), **MEMORY)
    assert agent.network.lstm is not None
    gradients = [weight.grad for weight in agent.network.lstm.parameters()]
    assert len(gradients) == 4
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)


def test_an_agent_with_a_module_handed_over_is_saved_and_loaded_with_one(tmp_path: Path) -> None:
    agent = learned(module=FlatEncoder((1, 10, 5), TINY))
    assert agent.config.encoder == "<FlatEncoder>"
    agent.save(tmp_path / "agent")
    again = load(tmp_path / "agent", "cpu", encoder=FlatEncoder((1, 10, 5), TINY), learning_rate=0.125)
    assert isinstance(again, DQN)
    assert_same(agent, again)
    assert (again.config.learning_rate, again.learner.learning_rate) == (0.125, 0.125)
    policy = Policy.load(tmp_path / "agent", "cpu", encoder=FlatEncoder((1, 10, 5), TINY))
    obs = np.random.default_rng(0).integers(256, size=(5, 1, 10, 5), dtype=np.uint8)
    assert torch.equal(policy.q_values(obs), agent.q_values(obs))
    wider = r"the encoder given here, got encoder\.layers\.0\.weight of shape \[8, 50\] in the file and \[9, 50\]"
    for given, said in (
        (None, r"trained with an encoder that was handed over, <FlatEncoder>; in Python, load it with encoder=module"),
        (nn.Flatten(), r"trained with the encoder <FlatEncoder>, got encoder=<Flatten>"),
        (FlatEncoder((1, 10, 5), dataclasses.replace(TINY, hidden=9)), wider),
    ):
        for door in (DQN.load, load):
            with pytest.raises(InvalidCheckpoint, match=said):
                door(tmp_path / "agent", "cpu", encoder=given)
    learned(22).save(tmp_path / "built_in")
    with pytest.raises(InvalidCheckpoint, match="trained with the encoder mlp, got encoder=<Flatten>"):
        DQN.load(tmp_path / "built_in", "cpu", encoder=nn.Flatten())


def test_a_run_with_a_module_handed_over_goes_on_exactly(tmp_path: Path) -> None:
    def run(out: Path, steps: int, *, resume: bool) -> DQN:
        envs, module = make_vec("pixelq/Catch-v0", 2, seed=0), FlatEncoder((1, 10, 5), TINY)
        torch.nn.init.constant_(module.layers[0].weight, 0.01)  # type: ignore[arg-type]
        torch.nn.init.zeros_(module.layers[0].bias)  # type: ignore[arg-type]
        if resume:
            agent = DQN.load(out / "checkpoints" / "latest", "cpu", encoder=module)
        else:
            spaces = envs.single_observation_space, envs.single_action_space
            agent = DQN(*spaces, TINY, device="cpu", seed=3, encoder=module)
        return agent.learn(envs, steps, out, resume=resume)

    whole = run(tmp_path / "whole", 60, resume=False)
    run(tmp_path / "halves", 40, resume=False)
    assert_same(run(tmp_path / "halves", 20, resume=True), whole)


def test_an_agent_with_registered_parts_is_loaded_where_they_are_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = learned(**OWN["encoder"], **OWN["head"], **OWN["target"])
    agent.save(tmp_path)
    assert_same(agent, DQN.load(tmp_path, "cpu"))
    monkeypatch.setitem(parts._REGISTERED, "head", {})
    for door in (DQN.load, load):
        with pytest.raises(InvalidCheckpoint, match=r"cannot be loaded: head must be .*, got 'plain'; import the mod"):
            door(tmp_path, "cpu")


def test_a_module_is_shared_by_nobody() -> None:
    module = FlatEncoder((6,), TINY)
    one, other = (DQN(VECTORS, ACTIONS, TINY, device="cpu", encoder=module) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(weights_of(one), weights_of(other), strict=True))
    with torch.no_grad():
        next(one.network.parameters()).zero_()
    assert next(other.network.parameters()).abs().min() > 0
    assert next(module.parameters()).abs().min() > 0


def test_a_factory_that_returns_one_module_twice_gives_each_agent_its_own() -> None:
    encoder, head = FlatEncoder((6,), TINY), PlainHead(8, 3, TINY)
    register_encoder("only", lambda *_: encoder)
    register_head("only", lambda *_: head)
    config = dataclasses.replace(TINY, encoder="only", head="only")
    one, other = (DQN(VECTORS, ACTIONS, config, device="cpu") for _ in range(2))
    with torch.no_grad():
        for weight in one.network.parameters():
            weight.zero_()
    for weight in (*other.network.parameters(), *encoder.parameters(), *head.parameters()):
        assert weight.abs().max() > 0


def test_the_agent_s_seed_draws_the_weights_of_a_factory() -> None:
    @register_encoder("drawing")
    class Drawing(nn.Module):
        def __init__(self, shape: tuple[int, ...], config: AgentConfig) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(*shape, 4) + torch.rand(4))
            self.lazy = nn.LazyLinear(5)

        def forward(self, obs: Tensor) -> Tensor:
            features: Tensor = self.lazy(obs @ self.weight)
            return features

    before = torch.get_rng_state()
    config = dataclasses.replace(TINY, encoder="drawing")
    first, same, other = (make_network((6,), 3, config, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_a_head_has_noise_of_its_own() -> None:
    given: list[Any] = []

    @register_head("shaken")
    class Shaken(PlainHead):
        def draw_noise(self, rows: int, generator: torch.Generator | None = None) -> Any:
            return torch.randn(rows, 1, generator=generator)

        def forward(self, features: Tensor, noise: Any = None) -> Tensor:
            given.append(None if noise is None else tuple(noise.shape))
            return super().forward(features) + (0 if noise is None else noise)

        streams = property(lambda self: ["of another kind"])

    agent = filled(small(TINY, head="shaken"))
    assert agent.replay is not None
    given.clear()
    agent.step = 10**9  # ε is at its end
    agent.learner.update(agent.replay.sample(8))
    agent.explore(np.zeros((2, *PIXELS.shape), np.uint8))
    agent.act(np.zeros((2, *PIXELS.shape), np.uint8), 0.0)
    assert given == [(1, 1), (1, 1), (2, 1), None]


def test_bfloat16_reaches_an_encoder_and_a_head() -> None:
    agent = filled(small(TINY, encoder="flat", head="plain", precision="bfloat16"))
    assert agent.replay is not None
    update = agent.learner.update(agent.replay.sample(8))
    assert torch.isfinite(update.loss)
    assert agent.q_values(np.zeros((2, *PIXELS.shape), np.uint8)).dtype == torch.float32


def test_what_the_report_shows_of_own_parts() -> None:
    class Convolutions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(4, 3, 8, 4), nn.Conv2d(3, 2, 4, 2)

        def forward(self, obs: Tensor) -> Tensor:
            return self.second(self.first(pixels_to_float(obs)).relu()).flatten(1)  # type: ignore[no-any-return]

    config = dataclasses.replace(TINY, head="plain")
    agent = DQN(PIXELS, ACTIONS, config, device="cpu", encoder=Convolutions())
    obs = np.random.default_rng(0).integers(256, size=(3, *PIXELS.shape), dtype=np.uint8)
    assert [(each.name, each.maps.shape) for each in feature_maps(agent, obs[0])] == [
        ("1: 8×8", (3, 10, 10)),
        ("2: 4×4", (2, 4, 4)),
    ]
    with torch.no_grad():
        features = agent.network.encoder(torch.from_numpy(obs))
    np.testing.assert_array_equal(last_hidden(agent, obs), features.numpy())


def test_updates_with_own_parts_are_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    captured: list[bool] = []
    monkeypatch.setattr(cuda_graph, "CapturedUpdates", lambda *_: captured.append(True))
    for fields in ({}, OWN["encoder"], OWN["head"], OWN["target"]):
        agent = DQN(VECTORS, ACTIONS, dataclasses.replace(TINY, **fields), device="cpu")
        replay = agent.make_replay(1, 1)
        agent.learner.device = torch.device("cuda")
        cuda_graph.make_updates(agent.learner, replay)
    assert captured == [True]


# What is wrong is said when the agent is made


class Reading(nn.Module):
    """An encoder that does what it is told."""

    def __init__(self, read: Callable[[Any, Tensor], Any], **modules: Any) -> None:
        super().__init__()
        self.read, self.layer = read, nn.Linear(6, 5)
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, obs: Tensor) -> Any:
        return self.read(self, obs)


class Measured(Reading):
    """An encoder whose width cannot be set."""

    def __init__(self, width: int | None) -> None:
        super().__init__(plain)
        self.width = width

    @property
    def out_features(self) -> int | None:
        return self.width


def counted(encoder: Any, obs: Tensor) -> Tensor:
    encoder.count += 1
    return encoder.layer(obs) + encoder.count  # type: ignore[no-any-return]


def plain(encoder: Any, obs: Tensor) -> Any:
    return encoder.layer(obs)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Reading(plain, out_features=7), r"^out_features of the encoder <Reading> must be 5, .* got 7$"),
        (
            Reading(lambda s, x: s.layer(x).double()),
            r"must be float32 \[2, D\] for .*, got float64 \[2, 5\]$",
        ),
        (Reading(lambda s, x: s.layer(x)[:, None]), r"must be float32 \[2, D\] .*, got float32 \[2, 1, 5\]$"),
        (Reading(lambda s, x: s.layer(x)[:1]), r"must be float32 \[2, D\] .*, got float32 \[1, 5\]$"),
        (Reading(lambda s, x: (s.layer(x),)), r"must be float32 \[2, D\] .*, got tuple$"),
        (Reading(lambda s, x: s.layer(x[:, 1:])), r"cannot read observations float32 \[2, 6\]: RuntimeError: mat1"),
        (Reading(lambda s, x: s.drop(s.layer(x)), drop=nn.Dropout()), "such as dropout and batch normalisation"),
        (Reading(lambda s, x: s.norm(s.layer(x)), norm=nn.BatchNorm1d(5)), r"call eval\(\) on it"),
        (Reading(counted, count=0), "must give the same result each time"),
        (Reading(lambda s, x: s.layer(x).detach()), "features of .* must have a gradient"),
        (Reading(lambda s, x: s.layer(x).exp().add_(1)), "no gradient of features of .* can be computed: RuntimeError"),
        (Reading(lambda s, x: s.b(x.bfloat16()).float(), b=nn.Linear(6, 5).bfloat16()), r"^b\.weight of .* NumPy has"),
        (Reading(plain, made=torch.ones(1, requires_grad=True) * 2), "cannot be copied: RuntimeError"),
        (Measured(7), r"^out_features of the encoder <Measured> must be 5, .* got 7$"),
        (Measured(None), r"^out_features of the encoder <Measured> cannot be set to 5, .*: AttributeError: "),
        (Measured(5), None),
        (Reading(lambda s, x: s.norm(s.layer(x)), norm=nn.BatchNorm1d(5).eval()), None),
        (nn.LazyLinear(5), None),
        (Reading, "^encoder must be an nn.Module or None, got <class"),
    ],
)
def test_a_wrong_encoder(module: Any, said: str | None) -> None:
    if said is None:
        assert DQN(VECTORS, ACTIONS, TINY, device="cpu", encoder=module).network.encoder.out_features == 5
        return
    with pytest.raises(InvalidConfig, match=said):
        DQN(VECTORS, ACTIONS, TINY, device="cpu", encoder=module)


def changed(**changes: Any) -> Any:
    """A head whose methods are replaced, or change what `PlainHead.loss` returns."""

    class Changed(PlainHead):
        def loss(self, value: Tensor, target: Any, generator: Any = None) -> HeadLoss:
            loss = super().loss(value, target, generator)
            return loss._replace(**{name: change(loss) for name, change in changes.items() if name in loss._fields})

    for name, method in changes.items():
        if name not in HeadLoss._fields or name == "q_of":
            setattr(Changed, name.removesuffix("_of"), method)
    return Changed


@pytest.mark.parametrize(
    ("kind", "part", "said"),
    [
        ("encoder", lambda shape, config: 1 / 0, r"cannot be made for observations \[6\]: ZeroDivisionError"),
        ("encoder", lambda shape, config: 3, "the encoder wrong must be an nn.Module, got int"),
        ("head", lambda width, actions, config: nn.Linear(width, actions), "must have the method q"),
        ("head", lambda width: None, "cannot be made for 8 features and 3 actions: TypeError"),
        ("head", changed(q_of=lambda self, value: value[:, :2]), r"must be float32 \[2, 3\] .*, got float32 \[2, 2\]"),
        ("head", changed(forward=lambda self, x: x), r"cannot read features float32 \[2, 8\]: TypeError"),
        ("head", changed(loss=lambda loss: loss.loss.mean()), r"losses of .* \[2\] .*, got float32 \[\]"),
        ("head", changed(loss=lambda loss: loss.loss.detach()), "losses of the head wrong must have a gradient"),
        ("head", changed(priority=lambda loss: loss.loss), "priorities of the head wrong must have no gradient"),
        ("head", changed(priority=lambda loss: loss.priority.long()), r"floating-point numbers \[2\] .* got int64"),
        ("head", changed(loss=lambda loss: loss.loss + torch.rand(2)), "must draw from the generator that it is given"),
        ("target", lambda inputs: inputs.reward, r"must return a reward \[2\] and a policy \[2, 3\]"),
        (
            "target",
            lambda inputs: (inputs.next_q, inputs.reward),
            r"got \(float32 \[2, 3\] on cpu, float32 \[2\] on cpu",
        ),
        ("target", lambda inputs: (inputs.reward.numpy(), inputs.next_q), r"numbers on cpu, got \(ndarray, float32"),
        (
            "target",
            lambda inputs: (inputs.reward, inputs.next_q.long()),
            r"numbers on cpu, got .* int64 \[2, 3\] on cpu",
        ),
        ("target", lambda inputs: (inputs.reward, inputs.next_q.to("meta")), r"on cpu, got .* \[2, 3\] on meta"),
        ("target", lambda inputs: (inputs.reward, inputs.next_q.softmax(1) * 1.01), r"sum 1 in each row, got \["),
        ("target", lambda inputs: (inputs.reward, 4 * inputs.next_q.softmax(1) - 1), "probabilities, at least 0"),
        ("target", lambda inputs: (inputs.reward, inputs.next_q / 0), "a policy of probabilities"),
        ("target", lambda inputs: (inputs.reward, inputs.next_p), "cannot be computed: AttributeError"),
        ("target", lambda inputs: (torch.rand(2), inputs.next_q), r"must draw from inputs\.generator"),
    ],
)
def test_a_wrong_part(kind: str, part: Any, said: str) -> None:
    register = {"encoder": register_encoder, "head": register_head, "target": register_target}[kind]
    register("wrong", part)
    config = dataclasses.replace(TINY, **{kind: "wrong"})
    with pytest.raises(InvalidConfig, match=said):
        DQN(VECTORS, ACTIONS, config, device="cpu")


def test_nothing_to_learn() -> None:
    register_head("fixed", lambda *sizes: PlainHead(*sizes).requires_grad_(False))
    config = dataclasses.replace(TINY, head="fixed")
    with pytest.raises(InvalidConfig, match="the network must have weights to learn"):
        DQN(VECTORS, ACTIONS, config, device="cpu", encoder=nn.Linear(6, 5).requires_grad_(False))
