"""Our encoders as features extractors of stable-baselines3; nothing else in this package imports it.

PPO("CnnPolicy", env, policy_kwargs=dict(
    features_extractor_class=SB3Extractor, features_extractor_kwargs=dict(encoder="impala")))
"""

import gymnasium as gym
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from pixelq.networks.encoders import make_encoder


class SB3Extractor(BaseFeaturesExtractor):
    """An encoder of `make_encoder`, in front of any policy of stable-baselines3.

    stable-baselines3 decides about scaling, and the extractor leaves it to that. Everything arrives as float32:
    uint8 images of three dimensions and bounds 0 to 255 already divided by 255, unless the policy has
    `normalize_images=False`, and anything else, such as a [H, W] image, as it is. Our encoders scale uint8 only, so no
    pixel is scaled twice.

    PPO and A2C initialise the extractor's layers anew, orthogonally; `ortho_init=False` in `policy_kwargs` keeps the
    encoder's own initialisation, and DQN keeps it always.

    Args:
        observation_space: a Box; images are channels-first by then, as stable-baselines3 transposes them.
        encoder: a name that `make_encoder` knows.
        features_dim: width of the dense layer that ends the encoder, of the MLP too.

    Raises:
        ValueError: the space is not a Box, or `make_encoder` cannot build that encoder for its shape.
    """

    def __init__(self, observation_space: gym.Space, encoder: str = "auto", features_dim: int = 512) -> None:  # type: ignore[type-arg]
        if not isinstance(observation_space, gym.spaces.Box):
            raise ValueError(f"SB3Extractor needs a Box of observations, but the space is {observation_space}.")
        super().__init__(observation_space, features_dim)
        self.encoder = make_encoder(encoder, observation_space.shape, hidden=features_dim, features=features_dim)

    def forward(self, observations: Tensor) -> Tensor:
        """Map observations [B, *shape], float32 and scaled by stable-baselines3, to features [B, features_dim]."""
        features: Tensor = self.encoder(observations)
        return features
