"""Our encoders as features extractors of stable-baselines3; no other file of this package imports that library.

For example:

    PPO("CnnPolicy", env, policy_kwargs=dict(
        features_extractor_class=SB3Extractor, features_extractor_kwargs=dict(encoder="impala")))
"""

import gymnasium as gym
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from pixelq.networks.encoders import make_encoder


class SB3Extractor(BaseFeaturesExtractor):
    """An encoder of `make_encoder` as the features extractor of any policy of stable-baselines3.

    Scaling is left to stable-baselines3, which passes all observations as float32. It has already divided uint8 images
    of three dimensions with bounds 0 and 255 by 255, unless the policy has `normalize_images=False`, and leaves
    anything else, such as a [H, W] image, unscaled. Our encoders scale only uint8, so no pixel is scaled twice.

    PPO and A2C reinitialise the extractor's layers orthogonally; `ortho_init=False` in `policy_kwargs` keeps the
    encoder's own initialisation. DQN always keeps it.

    Args:
        observation_space: A Box; its images are channels-first, as stable-baselines3 transposes them before.
        encoder: A name that `make_encoder` accepts.
        features_dim: Width of the dense layer that ends the encoder, or of the MLP's layer.

    Raises:
        ValueError: If the space is not a Box, or `make_encoder` cannot build that encoder for its shape.
    """

    def __init__(self, observation_space: gym.Space, encoder: str = "auto", features_dim: int = 512) -> None:  # type: ignore[type-arg]
        if not isinstance(observation_space, gym.spaces.Box):
            raise ValueError(f"observation_space must be a Box, got {observation_space}")
        super().__init__(observation_space, features_dim)
        self.encoder = make_encoder(encoder, observation_space.shape, hidden=features_dim, features=features_dim)

    def forward(self, observations: Tensor) -> Tensor:
        """Map observations [B, *shape], float32 and scaled by stable-baselines3, to features [B, features_dim]."""
        features: Tensor = self.encoder(observations)
        return features
