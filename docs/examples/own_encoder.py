"""An encoder of your own, registered under a name or passed as a module."""

from torch import Tensor, nn

from pixelq.agents import DQN, AgentConfig, register_encoder
from pixelq.envs import make_vec
from pixelq.networks import pixels_to_float


@register_encoder("shallow")
class Shallow(nn.Module):
    """One convolution, whose width is a setting of the configuration."""

    def __init__(self, observation_shape: tuple[int, ...], config: AgentConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(observation_shape[0], 8 * config.encoder_width, 3), nn.ReLU())

    def forward(self, obs: Tensor) -> Tensor:
        return self.layers(pixels_to_float(obs)).flatten(1)  # uint8 [B, 1, 10, 5] to float32 [B, D]


envs = make_vec("pixelq/Catch-v0", num_envs=4, seed=0)
spaces = envs.single_observation_space, envs.single_action_space
small = {"hidden": 32, "replay_capacity": 1_000, "learning_starts": 100}

# Registered: the agent's files contain only the name, so register the encoder again before you load the agent.
# With the class above in my_parts.py, use `pixelq train --import my_parts --agent.encoder shallow`.
agent = DQN(*spaces, AgentConfig(encoder="shallow", encoder_width=2, **small), device="cpu")
agent.learn(envs, steps=200).save("registered")
print(DQN.load("registered", device="cpu").network.encoder)

# Passed as a module, of which the agent trains a copy. Frozen layers, for example pretrained ones, are not trained.
module = nn.Sequential(Shallow((1, 10, 5), AgentConfig()).requires_grad_(False), nn.LazyLinear(64), nn.ReLU())
agent = DQN(*spaces, AgentConfig(**small), device="cpu", encoder=module)
agent.learn(envs, steps=200).save("handed-over")
agent = DQN.load("handed-over", device="cpu", encoder=module)
print(agent.config.encoder, sum(weight.requires_grad for weight in agent.network.encoder.parameters()))
