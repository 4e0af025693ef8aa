"""Record a run in Weights & Biases, here offline.

To record it online, run `wandb login` and remove the line that sets WANDB_MODE.
"""

# needs wandb
import json
import os
from pathlib import Path

from pixelq.agents import DQN, WandbTracker
from pixelq.envs import make_vec

os.environ.setdefault("WANDB_MODE", "offline")  # `wandb sync` uploads the run later

envs, evaluation_envs = (make_vec("CartPole-v1", num_envs=4, seed=seed) for seed in (0, 1))
agent = DQN(envs.single_observation_space, envs.single_action_space, "classic", device="cpu")
tracker = WandbTracker("cartpole", tags=["example"], film=False)  # further arguments, such as `tags`, go to wandb.init
options = {"evaluation_envs": evaluation_envs, "evaluate_every": 200, "log_every": 100, "callbacks": [tracker]}
agent.learn(envs, 400, "run", **options)

# A resumed run continues the same record, also after a crash, and sends no step twice.
agent = DQN.load("run/checkpoints/latest", device="cpu")
agent.learn(envs, 200, "run", resume=True, **options)

record = json.loads(Path("run/tracking.json").read_text())["wandb"]
print(f"run {record['run']} of the project {record['project']}, recorded up to step {record['steps']['evaluations']}")
assert len(list(Path("run/wandb").glob(f"offline-run-*-{record['run']}"))) == 2
