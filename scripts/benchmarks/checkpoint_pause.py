"""How long a checkpoint stops the training of PQN, by what takes the time: a table.

`python -m pixelq.scripts.benchmarks.checkpoint_pause PRESET …` prints it, for `quick` and `pqn` without a name. Between
checkpoints, Pong is played at random for the default number of steps, or until all rows are new.
Wall-clock time depends on what else the machine does, above all on its disk; processor time is that of the training's
own thread.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from pixelq.agents import PQN, preset
from pixelq.agents.config.presets import PRESET_NUM_ENVS, PRESET_PROTOCOLS
from pixelq.agents.experience.rollout import Minibatch
from pixelq.agents.runs.checkpoints import RunCheckpoints
from pixelq.agents.storage.checkpoint import agent_files, run_files
from pixelq.agents.storage.files import digest
from pixelq.envs import make_vec

CHECKPOINTS = 5
"""Checkpoints of each preset; figures are medians over them."""
KEEP = 3
"""Newest checkpoints to keep, the default of `pixelq train`."""
EVERY = 50_000
"""Steps between checkpoints, the default of `pixelq train`."""
SHARE = 0.01
"""Share of the training's time whose speed is shown."""
PARTS = {
    "games": "state of the games",
    "rows": "rows, compressed and written",
    "packing": "weights, moments and JSON as bytes",
    "hashing": "their digests",
    "writing": "their files, synced, and old ones removed",
}
"""Parts of the pause."""

Seconds = tuple[float, float]
"""Wall-clock time, and processor time of this thread."""


class Laps:
    """Seconds of parts that are timed again and again."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[Seconds]] = defaultdict(list)

    @contextmanager
    def lap(self, part: str) -> Iterator[None]:
        """Time what is done while the context lasts."""
        before = time.perf_counter(), time.thread_time()
        yield
        self.seconds[part].append((time.perf_counter() - before[0], time.thread_time() - before[1]))

    def medians(self, part: str) -> Seconds:
        """Return the medians of a part."""
        wall, processor = zip(*self.seconds[part], strict=True)
        return median(wall), median(processor)


def pauses(name: str, checkpoints: int = CHECKPOINTS) -> tuple[dict[str, Seconds], int]:
    """Return the seconds of each part of a checkpoint, and the bytes of one.

    Args:
        name: Preset of a PQN that plays Atari games.
        checkpoints: Number of checkpoints to write.
    """
    config, num_envs, laps = preset(name), PRESET_NUM_ENVS[name], Laps()
    envs = make_vec("ALE/Pong-v5", num_envs, 0, PRESET_PROTOCOLS[name], frame_size=config.frame_size)
    agent = PQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    pixels = torch.zeros((2, *agent.observation_space.shape), dtype=torch.uint8)
    agent.learner.update(Minibatch(pixels, torch.zeros(2, dtype=torch.int64), torch.zeros(2), torch.ones(2).bool()))
    rollout, rng = agent.make_replay(num_envs, envs.frame_stack), np.random.default_rng(0)
    obs, _ = envs.reset()
    with tempfile.TemporaryDirectory() as folder:
        written = RunCheckpoints(Path(folder), rollout, KEEP)
        for _ in range(checkpoints):
            for _ in range(min(rollout.ring.length, EVERY // num_envs)):
                actions = rng.integers(agent.num_actions, size=num_envs)
                rollout.observe(obs)
                obs, reward, terminated, truncated, info = envs.step(actions)
                rollout.complete(actions, reward, terminated, truncated, info.get("life_lost"))
                agent.step += num_envs
            with laps.lap("games"):
                games = {f"games.{key}": torch.from_numpy(value) for key, value in envs.get_state().items()}
            checkpoint = agent.checkpoint()
            with laps.lap("rows"):
                run = checkpoint.run = written.run_state({}, games)
            with laps.lap("packing"):
                files = agent_files(checkpoint) | run_files(run)
            with laps.lap("hashing"):
                for data in files.values():
                    digest(data)
            with laps.lap("adding"):  # packs and hashes once more
                written.add(agent.step, checkpoint)
        size = sum(len(data) for data in files.values())
        size += sum((written.path(agent.step) / block).stat().st_size for block in run.blocks)
    envs.close()
    found = {part: laps.medians(part) for part in (*PARTS, "adding") if part != "writing"}
    adding, packing, hashing = found.pop("adding"), found["packing"], found["hashing"]
    found["writing"] = adding[0] - packing[0] - hashing[0], adding[1] - packing[1] - hashing[1]
    return found, size


def main(names: Sequence[str]) -> None:
    """Print a table of some presets, or of the two."""
    table = Table(
        title="milliseconds for which a checkpoint stops the training",
        caption="; ".join(f"{part}: {text}" for part, text in PARTS.items())
        + f". Each is wall-clock time, and in brackets processor time. {SHARE:.0%}: steps per second at which "
        f"a checkpoint every {EVERY:,} steps takes that share of the time.",
    )
    table.add_column("preset")
    for heading in ("MB", *PARTS, "all", f"{SHARE:.0%}"):
        table.add_column(heading, justify="right")
    for name in names or ("quick", "pqn"):
        found, size = pauses(name)
        found["all"] = sum(wall for wall, _ in found.values()), sum(processor for _, processor in found.values())
        cells = [f"{1e3 * wall:.0f} ({1e3 * processor:.0f})" for wall, processor in found.values()]
        speeds = [SHARE * EVERY / seconds for seconds in found["all"]]
        table.add_row(name, f"{size / 1e6:.1f}", *cells, f"{speeds[0]:,.0f} ({speeds[1]:,.0f})")
    Console(width=max(120, Console().width)).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
