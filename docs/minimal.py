"""DQN by hand: a policy, a replay and a learner in one loop that learns Catch in some ten seconds.

`DQN.learn` runs the same loop, with what a long training needs besides: metrics, evaluations, checkpoints, resuming.
Start from here to write a loop of your own.
"""

import numpy as np

from pixelq.agents import AgentConfig, Policy, Replay, evaluate
from pixelq.agents.learning.learner import Learner
from pixelq.envs import make_vec

NUM_ENVS = 8
STEPS = 8_000
"""Agent steps, summed over the environments."""


def main() -> float:
    """Learn Catch, and return the mean return of 100 greedy episodes, at most 1."""
    envs = make_vec("pixelq/Catch-v0", NUM_ENVS, seed=0)
    observation_space, action_space = envs.single_observation_space, envs.single_action_space
    config = AgentConfig(
        n_step=3,
        hidden=64,
        batch_size=32,
        learning_rate=5e-4,
        replay_capacity=2_000,
        learning_starts=500,
        train_every=4,
        target_update_every=200,
        epsilon_steps=3_000,
        epsilon_end=0.04,
    )
    policy = Policy(observation_space, action_space, config, device="cpu", seed=0)
    learner = Learner(policy.network, config, seed=0)  # has the target network and the optimiser
    replay = Replay(
        observation_space.shape,
        observation_space.dtype,
        capacity=config.replay_capacity,
        num_envs=NUM_ENVS,
        n_step=config.n_step,
        gamma=config.gamma,
        reward_clip=config.reward_clip,
        seed=0,
    )

    obs, _ = envs.reset()
    done = np.zeros(NUM_ENVS, dtype=bool)
    while policy.step < STEPS:
        # Act: ε depends on `policy.step`
        actions = policy.explore(obs)
        next_obs, reward, terminated, truncated, _ = envs.step(actions)
        replay.add(obs, actions, reward, terminated, truncated)
        before = policy.step
        policy.step += int((~done).sum())  # the step after an episode's end only resets
        obs, done = next_obs, terminated | truncated
        if policy.step < config.learning_starts:
            continue
        # Learn
        for _ in range(policy.step // config.train_every - before // config.train_every):
            learner.update(replay.sample(config.batch_size))
        if policy.step // config.target_update_every > before // config.target_update_every:
            learner.sync_target()

    result = evaluate(policy, make_vec("pixelq/Catch-v0", NUM_ENVS, seed=1), 100)
    print(f"mean return of {result.episodes} episodes after {policy.step:,} steps: {result.mean:.2f}")
    return result.mean


if __name__ == "__main__":
    main()
