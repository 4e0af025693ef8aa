"""A preset of your own: a function that returns a configuration. Its settings are saved with every agent and run.

On the command line, the same settings are flags on top of the preset that they start from:
  pixelq train --env CartPole-v1 --preset classic --agent.double --agent.n-step 5 --agent.hidden 64
"""

from dataclasses import replace

from pixelq.agents import DQN, AgentConfig, InvalidConfig, preset
from pixelq.envs import make_vec


def brisk() -> AgentConfig:
    """Double DQN with 5-step returns and a small network, for short trainings on vectors."""
    return replace(
        preset("classic"),
        double=True,
        n_step=5,
        hidden=64,
        learning_starts=200,
        epsilon_steps=1_000,
    )


envs = make_vec("CartPole-v1", num_envs=4, seed=0)
agent = DQN(envs.single_observation_space, envs.single_action_space, brisk(), device="cpu", seed=0)
agent.learn(envs, steps=600, out="run").save("agent")

# Files hold every field, so loading needs neither the function nor its name.
assert DQN.load("agent", device="cpu").config == DQN.load("run", device="cpu").config == brisk()
print({name: value for name, value in brisk().to_dict().items() if value != preset("classic").to_dict()[name]})

try:  # Every value and combination is checked at once, before anything is made.
    replace(brisk(), munchausen=True)
except InvalidConfig as error:
    print(error)
