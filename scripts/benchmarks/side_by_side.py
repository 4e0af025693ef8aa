"""How much longer several runs at once take than one after the other, with the threads that they choose.

`python -m pixelq.scripts.benchmarks.side_by_side` trains on CartPole, on a small image of MinAtar's size and on Pong:
one run alone, and then 2 to `--most` runs at once. It exits with 1 if k runs at once took more than `LIMIT` times as
long as k runs one after the other. On two cores that takes about ten minutes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pixelq.agents.config.machine_limits import usable_cores

LIMIT = 1.3
"""Greatest time of k runs at once, in times of k runs one after the other."""
CHOICES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables that would choose in place of the runs."""
REPLAYING = ["--preset", "quick_dqn"]
WORK = {
    "CartPole": ["--env", "CartPole-v1", "--preset", "classic", "--steps", "10000"],
    "MinAtar-sized": [*REPLAYING, "--env", "pixelq/Catch-v0", "--agent.encoder", "minatar", "--steps", "8000"],
    "Pong": [*REPLAYING, "--env", "ALE/Pong-v5", "--steps", "2000"],
}
"""Flags of `pixelq train` for each work; the first half of the steps only fills the replay."""


def seconds_at_once(flags: Sequence[str], runs: int) -> float:
    """Return the seconds of the slowest of several runs that are started together, without their imports.

    Raises:
        RuntimeError: If one of them fails.
    """
    steps = int(flags[flags.index("--steps") + 1])
    environ = {name: value for name, value in os.environ.items() if name not in CHOICES}
    never = ["--evaluate-every", str(10 * steps), "--evaluation-episodes", "1", "--final-episodes", "1"]
    quiet = ["--checkpoint-every", str(10 * steps), "--device", "cpu", "--agent.learning-starts", str(steps // 2)]
    command = [sys.executable, "-m", "pixelq.scripts.main", "train", *flags, *never, *quiet]
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder) / str(run) for run in range(runs)]
        processes = [
            subprocess.Popen(
                [*command, "--seed", str(seed), "--out", str(out)],
                env=environ,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for seed, out in enumerate(outs)
        ]
        for process in processes:
            _, errors = process.communicate()
            if process.returncode:
                raise RuntimeError(f"pixelq train failed: {errors[-500:]}")
        return max(_wall_seconds(out) for out in outs)


def _wall_seconds(run: Path) -> float:
    with (run / "metrics.csv").open() as file:
        return float(list(csv.DictReader(file))[-1]["wall_seconds"])


def side_by_side(work: Sequence[str], most: int) -> dict[str, Any]:
    """Return the figures of each work as JSON values.

    Args:
        work: Names of `WORK`.
        most: Greatest number of runs at once.
    """
    figures: dict[str, Any] = {"cores": usable_cores(), "limit": LIMIT, "work": {}}
    for name in work:
        alone = seconds_at_once(WORK[name], 1)
        found: dict[str, Any] = {"flags": WORK[name], "alone_seconds": alone, "at_once": []}
        for runs in range(2, most + 1):
            seconds = seconds_at_once(WORK[name], runs)
            found["at_once"].append({"runs": runs, "seconds": seconds, "ratio": seconds / (runs * alone)})
        figures["work"][name] = found
    return figures


def main() -> int:
    """Measure and print; return 1 if runs at once are slower than they may be."""
    parser = argparse.ArgumentParser(prog="side_by_side", description=__doc__)
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK), help="what to train on")
    parser.add_argument("--most", type=int, default=3, help="greatest number of runs at once")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    figures = side_by_side(args.work, args.most)
    ratios = []
    for name, found in figures["work"].items():
        print(f"{name}: one run takes {found['alone_seconds']:.1f} s")
        for each in found["at_once"]:
            ratios.append(each["ratio"])
            print(f"  {each['runs']} at once take {each['seconds']:.1f} s, {each['ratio']:.2f} of one after the other")
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return int(max(ratios, default=0.0) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
