"""Encoders inside stable-baselines3: real training, and pixels scaled exactly once."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from pixelq.networks import make_encoder
from pixelq.networks.sb3 import SB3Extractor
from tests.support.cases import representative


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks gain nothing from a second thread, and lose much where another process wants that core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class BrightHalf(gym.Env[np.ndarray, np.int64]):
    """One half of the image is bright; the action that names it earns 1. Episodes of 8 steps."""

    def __init__(self, shape: tuple[int, int, int] = (1, 36, 36)) -> None:
        self.observation_space = gym.spaces.Box(0, 255, shape, np.uint8)
        self.action_space = gym.spaces.Discrete(2)
        self.channels_last = shape[2] < shape[0]

    def _observe(self) -> np.ndarray:
        self.bright = int(self.np_random.integers(2))
        image = np.zeros(self.observation_space.shape, np.uint8)  # type: ignore[arg-type]
        columns = slice(18 * self.bright, 18 * self.bright + 18)
        image[(slice(None), columns) if self.channels_last else (..., columns)] = 200
        return image

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward = float(int(action) == self.bright)
        self.steps += 1
        return self._observe(), reward, False, self.steps == 8, {}


def policy_kwargs(encoder: str, **more: object) -> dict[str, Any]:
    extractor = {"encoder": encoder, "features_dim": 64}
    return {"features_extractor_class": SB3Extractor, "features_extractor_kwargs": extractor, **more}


def make(algorithm: str, encoder: str, env: gym.Env[Any, Any], **more: object) -> BaseAlgorithm:
    kwargs = policy_kwargs(encoder, **more)
    if algorithm == "ppo":
        settings = {"n_steps": 64, "batch_size": 32, "n_epochs": 4, "learning_rate": 5e-4}
        return PPO("CnnPolicy", env, policy_kwargs=kwargs, seed=0, device="cpu", **settings)  # type: ignore[arg-type]
    settings = {"learning_starts": 50, "train_freq": 1, "buffer_size": 500, "gamma": 0.0, "learning_rate": 1e-3}
    return DQN("CnnPolicy", env, policy_kwargs=kwargs, seed=0, device="cpu", **settings)  # type: ignore[arg-type]


def extractor_of(model: BaseAlgorithm) -> SB3Extractor:
    policy: Any = model.policy
    found = policy.q_net.features_extractor if isinstance(model, DQN) else policy.features_extractor
    assert isinstance(found, SB3Extractor)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "encoder", "steps"),
    representative(
        [("ppo", "impala", 512), ("ppo", "nature", 512), ("dqn", "auto", 400)], keep=[("ppo", "nature", 512)]
    ),
)
def test_training_learns_and_changes_the_encoder(algorithm: str, encoder: str, steps: int) -> None:
    env = BrightHalf()
    model = make(algorithm, encoder, env)
    extractor = extractor_of(model)
    before = {key: value.clone() for key, value in extractor.state_dict().items()}
    model.learn(steps)
    for key, value in extractor.state_dict().items():
        assert not torch.equal(value, before[key]), key
        assert torch.isfinite(value).all(), key

    right = 0
    obs, _ = env.reset(seed=1)
    for _ in range(40):
        action, _ = model.predict(obs, deterministic=True)
        right += int(action == env.bright)
        obs, *_ = env.step(action)
    assert right >= 36


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
@pytest.mark.parametrize("encoder", ["nature", "dopamine", "impala", "minatar", "mlp"])
def test_features_equal_the_encoders_own_on_the_raw_pixels(algorithm: str, encoder: str) -> None:
    for shape in ((1, 36, 36), (36, 36, 3)):
        model = make(algorithm, encoder, BrightHalf(shape))
        extractor = extractor_of(model)
        channels_first = (1, 36, 36) if shape[0] == 1 else (3, 36, 36)  # stable-baselines3 transposes
        own = make_encoder(encoder, channels_first, hidden=64, features=64)
        own.load_state_dict(extractor.encoder.state_dict())
        pixels = torch.randint(0, 256, (4, *channels_first), dtype=torch.uint8)
        policy: Any = model.policy.q_net if isinstance(model, DQN) else model.policy  # type: ignore[union-attr]
        features = policy.extract_features(pixels, extractor)
        assert features.shape == (4, 64)
        assert features.std() > 1e-3
        torch.testing.assert_close(features, own(pixels), rtol=1e-5, atol=1e-6)


def test_normalize_images_false_takes_the_environments_floats_as_they_are() -> None:
    env: gym.Env[Any, Any] = gym.wrappers.TransformObservation(
        BrightHalf(), lambda obs: np.float32(obs) / 255, gym.spaces.Box(0, 1, (1, 36, 36), np.float32)
    )
    model = make("dqn", "nature", env, normalize_images=False)
    obs = torch.rand(4, 1, 36, 36)
    policy: Any = model.policy
    extractor = extractor_of(model)
    torch.testing.assert_close(policy.q_net.extract_features(obs, extractor), extractor.encoder(obs))


def test_which_algorithms_keep_the_encoders_initialisation() -> None:
    def is_xavier(model: BaseAlgorithm) -> bool:
        weight = next(extractor_of(model).parameters()).detach()  # [32, 1, 8, 8]
        bound = np.sqrt(6 / (64 + 32 * 64))
        return bool(0.98 * bound < weight.abs().max() <= bound * (1 + 1e-6))

    assert is_xavier(make("dqn", "dopamine", BrightHalf()))
    assert is_xavier(make("ppo", "dopamine", BrightHalf(), ortho_init=False))
    assert not is_xavier(make("ppo", "dopamine", BrightHalf()))


def test_vectors_use_the_mlp_and_other_spaces_are_refused() -> None:
    extractor = SB3Extractor(gym.spaces.Box(-1, 1, (5,), np.float32), features_dim=16)
    assert extractor.features_dim == 16
    assert extractor(torch.zeros(2, 5)).shape == (2, 16)
    with pytest.raises(ValueError, match="observation_space must be a Box"):
        SB3Extractor(gym.spaces.Discrete(3))
