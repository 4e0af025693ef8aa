"""A stand-in for `pixelq train` that starts at once: it counts steps, and keeps files as a run does.

What it writes depends on its flags alone, as long as it goes on from its last checkpoint. `STAND_IN` in the environment
holds JSON: `seconds` of a step, under `fails` how often the runs of some names fail, under `stops` the names of runs
that stop before their first step, as if a signal had asked them to, and under `peak` a field with the value at which
the score is best, and the field's default.
"""

import csv
import fcntl
import itertools
import json
import math
import os
import signal
import sys
import time
from pathlib import Path

EVERY = 5
METRICS = (
    "step frames episodes return_mean return_median length_mean loss q_mean epsilon updates "
    "steps_per_second wall_seconds restarts q_discrepancy return_mean_100"
).split()
EVALUATIONS = "step episodes mean median std ci95_low ci95_high human_normalized".split()


def replace(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.aside")
    aside.write_text(text)
    aside.replace(path)


def main() -> int:
    words = sys.argv[2:]
    flags = dict(itertools.pairwise(words))
    out, steps, seed = Path(flags["--out"]), int(flags["--steps"]), int(flags["--seed"])
    every = int(flags.get("--evaluate-every", EVERY))
    options = json.loads(os.environ.get("STAND_IN", "{}"))
    out.mkdir(parents=True, exist_ok=True)
    lock = (out / ".lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert ("--resume" in words) == (out / "config.json").exists()
    given = {word[8:].replace("-", "_"): flags[word] for word in words if word.startswith("--agent.")}
    agent = {name: value.startswith("--") or json.loads(value) for name, value in given.items()}
    if "--resume" in words:
        agent = json.loads((out / "config.json").read_text())["agent"]
    config = {"env": flags["--env"], "protocol": "gymnasium", "seed": seed, "steps": steps, "agent": agent}
    replace(out / "config.json", json.dumps(config | {"preset": flags["--preset"]}))
    tries = out.parent / "logs" / f"{out.name}.tries"
    tries.write_text(tries.read_text() + "." if tries.exists() else ".")
    if len(tries.read_text()) <= options.get("fails", {}).get(out.name, 0):
        print("pixelq train: it fails")
        return 1
    if out.name in options.get("stops", ()):
        return 143
    state = out / "checkpoint.json"
    step, value = json.loads(state.read_text()) if state.exists() else (0, seed)
    for name, columns in (("metrics", METRICS), ("evaluations", EVALUATIONS)):  # cut off after the checkpoint
        path = out / f"{name}.csv"
        rows = list(csv.DictReader(path.open())) if path.exists() else []
        text = ",".join(columns) + "\n"
        text += "".join(",".join(row.values()) + "\n" for row in rows if row["step"] and int(row["step"]) <= step)
        replace(path, text)
    field, best, usual = options.get("peak", [None, 1.0, 1.0])
    quality = -abs(math.log10(agent.get(field, usual) / best))
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    while step < steps and not stopped:
        time.sleep(options.get("seconds", 0.0))
        step, value = step + 1, (value * 31 + step) % 1009
        if step % every == 0 or step == steps:
            mean = value if field is None else quality + seed / 8 + step / steps
            row = dict.fromkeys(METRICS, "") | {"step": step, "frames": step, "episodes": step, "return_mean": mean}
            row |= {"epsilon": 0.0, "updates": 0, "steps_per_second": 1.0, "wall_seconds": 1.0, "restarts": 0}
            with (out / "metrics.csv").open("a") as file:
                file.write(",".join(map(str, row.values())) + "\n")
            with (out / "evaluations.csv").open("a") as file:
                file.write(f"{step},2,{mean},{mean},1.0,{mean - 1},{mean + 1},\n")
            replace(state, json.dumps([step, value]))
    if stopped:
        replace(state, json.dumps([step, value]))
        return 143
    mean = value if field is None else quality + seed / 8 + 1
    final = {"env": flags["--env"], "protocol": "gymnasium", "checkpoint": str(out / "checkpoints" / "best")}
    final |= {"step": step, "frames": step, "episodes": 2, "mean": mean, "median": mean, "std": 1.0}
    final |= {"ci95": [mean - 1, mean + 1], "human_normalized": None}
    replace(out / "final_evaluation.json", json.dumps(final))
    return 0


if __name__ == "__main__":
    sys.exit(main())
