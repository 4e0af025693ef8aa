"""Settings that change during a training: built-in schedules, a function of your own, and changes between calls."""

from dataclasses import replace

from pixelq.agents import DQN, Exponential, Linear, preset
from pixelq.envs import make_vec

STEPS = 1_200


def epsilon(step: int) -> float:
    """Return the probability of a random action, `step` steps after `learning_starts`: five waves, each smaller."""
    return (1 - step / STEPS) * (1 - step % 200 / 200) if step < 1_000 else 0.02


envs = make_vec("CartPole-v1", num_envs=4, seed=0)
config = replace(
    preset("classic"),
    learning_starts=200,
    # Built-in schedules are saved with the agent. On the command line:
    # --agent.learning-rate "linear(1e-3, 1e-4, 1000)"
    learning_rate=Linear(1e-3, 1e-4, STEPS - 200),
    # As in BBF, shorten the n-step returns and lengthen the horizon, 1 / (1 - gamma).
    n_step=Exponential(10, 3, 500),
    gamma=Exponential(0.97, 0.99, 500, limit=1.0),
    # Of a function, only the name is saved.
    epsilon=epsilon,
)
agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=0)
agent.learn(envs, STEPS)
print(f"{agent.learner.learning_rate:g} {agent.epsilon:g}")

agent.save("agent")
agent = DQN.load("agent", "cpu", epsilon=epsilon)  # so it must be given again
agent.replace(learning_rate=5e-5, batch_size=32, epsilon=0.01)  # from the next step on
agent.learn(envs, 500)
print(f"{agent.learner.learning_rate:g} {agent.epsilon:g}")
