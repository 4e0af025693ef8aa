"""How good the agents are: the summary, and where they stand beside random play, a person and published agents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelq.agents.report.page import Section
from pixelq.agents.results.baselines import Baseline, baselines
from pixelq.agents.results.comparison import MILLION
from pixelq.agents.results.formatting import count, hours, interval, number, percent, rules, signed
from pixelq.agents.results.records import Group, Run, Score
from pixelq.envs import human_normalized_score, reference_score

FRESH = "best checkpoint, fresh games"
LAST = "last evaluation"


@dataclass(frozen=True)
class GroupScore:
    """The mean raw return of an agent on an environment."""

    mean: float
    """Over seeds, of the means over episodes."""
    low: float
    """Of one seed the 95% interval over its episodes; of several one standard deviation over seeds below the mean."""
    high: float
    frames: int
    """Of the emulator: those of the runs, as a best checkpoint is chosen from all of one, or those before the last
    evaluation; the mean over seeds."""
    what: str
    """``best checkpoint, fresh games``, or the last evaluation of runs that are not at their end."""
    scores: tuple[Score, ...]
    """[N], of the seeds."""


def score_of_group(group: Group) -> GroupScore | None:
    """The final evaluations of all its runs, or else their last ones; None if a run has none with a finite mean.

    The best of a run's evaluations is no measure, as it was chosen for being the greatest.
    """
    for what, scores in ((FRESH, [run.final for run in group.runs]), (LAST, [run.last for run in group.runs])):
        found = tuple(score for score in scores if score is not None and math.isfinite(score.mean))
        if len(found) == len(group.runs):
            mean, low, high = over_seeds(found)
            frames = [
                run.frames if what == FRESH else score.step * run.frames_per_step
                for score, run in zip(found, group.runs, strict=True)
            ]
            return GroupScore(mean, low, high, round(sum(frames) / len(frames)), what, found)
    return None


def over_seeds(scores: Sequence[Score]) -> tuple[float, float, float]:
    """Mean over seeds; of one seed the interval of its episodes, of several one standard deviation to each side."""
    if len(scores) == 1:
        return scores[0].mean, scores[0].low, scores[0].high
    means = np.array([score.mean for score in scores])
    std = float(means.std(ddof=1))
    return float(means.mean()), float(means.mean()) - std, float(means.mean()) + std


def summary_section(groups: Sequence[Group]) -> Section:
    """The section of what each agent came to, a table for each environment."""
    envs = list(dict.fromkeys(group.env for group in groups))
    tables = []
    for env in envs:
        rows = [_row(group) for group in groups if group.env == env]
        reference = reference_score(env)
        if reference is not None:
            rows += [
                {"agent": called, "fresh": number(score), "human": percent(human_normalized_score(env, score))}
                for called, score in (("random play", reference.random), ("a person", reference.human))
            ]
        tables.append({"env": env, "rows": rows})
    return Section("summary", "Summary", {"tables": tables, "fresh": FRESH, "last": LAST})


def _row(group: Group) -> dict[str, Any]:
    """An agent on an environment, in words."""
    runs = group.runs

    def cell(scores: Sequence[Score | None]) -> str:
        found = [score for score in scores if score is not None]
        return interval(*over_seeds(found)) if len(found) == len(runs) else "–"

    score = score_of_group(group)
    normalized = None if score is None else human_normalized_score(group.env, score.mean)
    return {
        "agent": group.agent,
        "seeds": ", ".join(str(run.config.get("seed", "?")) for run in runs),
        "length": _length(runs),
        "fresh": cell([run.final for run in runs]),
        "last": cell([run.last for run in runs]),
        "best": cell([run.best for run in runs]),
        "human": percent(normalized),
        "hours": hours(float(np.mean([run.seconds for run in runs]))),
    }


def _length(runs: Sequence[Run]) -> str:
    """How long runs are, in the unit of their game."""
    fewest, most = (choose(runs, key=lambda run: run.steps) for choose in (min, max))
    unit = "frames" if most.frames_per_step > 1 else "steps"
    shown = [count(run.frames) for run in (fewest, most)]
    return f"{' to '.join(dict.fromkeys(shown))} {unit}"


def standing_section(groups: Sequence[Group]) -> Section | None:
    """The section that lays each agent beside others at its frames; None if no environment has reference scores."""
    tables = []
    for group in groups:
        score = score_of_group(group)
        if score is None or reference_score(group.env) is None:
            continue
        tables.append(
            {
                "agent": group.agent,
                "env": group.env,
                "score": interval(score.mean, score.low, score.high),
                "what": score.what,
                "frames": count(score.frames),
                "normalized": percent(human_normalized_score(group.env, score.mean)),
                "rows": _beside(group, score),
                "has_published": group.has_published_rules and score.frames >= MILLION / 2,
                "protocol": rules(group.protocol, group.flicker),
                "has_published_rules": group.has_published_rules,
            }
        )
    return Section("standing", "Beside others", {"tables": tables}) if tables else None


def _verdict(row: Baseline) -> str:
    if row.deviations is None:
        return ""
    return f"{'inside' if row.is_inside else 'above' if row.deviations > 0 else 'below'} the spread"


def _beside(group: Group, score: GroupScore) -> list[dict[str, str]]:
    called = {"random": "random play", "human": "a person"}
    return [
        {
            "name": called.get(row.name, row.name),
            "mean": number(row.mean) + ("" if row.std is None else f" ± {number(row.std)}"),
            "seeds": "" if row.seeds is None else str(row.seeds),
            "normalized": percent(row.human_normalized),
            "ratio": "–" if row.ratio is None else f"{row.ratio:.2f}".replace("-", "−"),
            "deviations": "" if row.deviations is None else signed(row.deviations),
            "verdict": _verdict(row),
        }
        for row in baselines(group.env, score.mean, score.frames, group.protocol, group.flicker)
    ]
