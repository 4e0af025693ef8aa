"""Play an episode from an ONNX file, without PyTorch. This makes the file: pixelq export demo --out policy.onnx"""

# needs onnxruntime
import json
import sys

import numpy as np
import onnxruntime

from pixelq.envs import make_vec

session = onnxruntime.InferenceSession("policy.onnx")
shapes = {each.name: each.shape for each in session.get_inputs()}
about = session.get_modelmeta().custom_metadata_map
envs = make_vec(about["env"], 1, 0, about.get("protocol", "sticky"), **json.loads(about["env_arguments"]))

obs, _ = envs.reset()
state = {name: np.zeros((1, shapes[name][1]), np.float32) for name in ("hidden", "cell") if name in shapes}
start, action, reward = np.array([True]), np.zeros(1, np.int64), np.zeros(1, np.float32)
total, steps, done = 0.0, 0, False
while not done:
    given = {"observation": obs, "episode_start": start, "last_action": action, "last_reward": reward, **state}
    q, *states = session.run(None, {name: given[name] for name in shapes})  # only what the network reads
    state = dict(zip(state, states, strict=True))
    action = q.argmax(1)
    obs, reward, terminated, truncated, _ = envs.step(action)
    start, reward, done = np.array([False]), reward.astype(np.float32), bool(terminated[0] or truncated[0])
    total, steps = total + float(reward[0]), steps + 1
print(f"return {total:g} in {steps:,} steps; PyTorch was {'' if 'torch' in sys.modules else 'not '}loaded")
