"""Sections of scores: the summary, and the comparison with random play, a person and published agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pixelq.agents.report.page import Section
from pixelq.agents.results.baselines import Baseline, baselines
from pixelq.agents.results.comparison import MILLION
from pixelq.agents.results.formatting import (
    describe_rules,
    format_count,
    format_duration,
    format_interval,
    format_percent,
    format_score,
    format_signed,
)
from pixelq.agents.results.records import Group, MeanReturn, Run
from pixelq.agents.results.scores import FINAL, LAST, GroupScore, mean_over_seeds, score_of_group
from pixelq.envs import human_normalized_score, reference_score


def summary_section(groups: Sequence[Group]) -> Section:
    """Return the section with the scores of each agent, in a table for each environment."""
    envs = list(dict.fromkeys(group.env for group in groups))
    tables = []
    for env in envs:
        rows = [_row(group) for group in groups if group.env == env]
        reference = reference_score(env)
        if reference is not None:
            rows += [
                {
                    "agent": called,
                    "fresh": format_score(score),
                    "human": format_percent(human_normalized_score(env, score)),
                }
                for called, score in (("random play", reference.random), ("a person", reference.human))
            ]
        tables.append({"env": env, "rows": rows})
    return Section("summary", "Summary", {"tables": tables, "fresh": FINAL, "last": LAST})


def _row(group: Group) -> dict[str, Any]:
    """Return the cells of an agent on an environment."""
    runs = group.runs

    def cell(scores: Sequence[MeanReturn | None]) -> str:
        found = [score for score in scores if score is not None]
        return format_interval(*mean_over_seeds(found)) if len(found) == len(runs) else "–"

    score = score_of_group(group)
    normalized = None if score is None else human_normalized_score(group.env, score.mean)
    return {
        "agent": group.agent,
        "seeds": ", ".join(str(run.config.get("seed", "?")) for run in runs),
        "length": _length(runs),
        "fresh": cell([run.final for run in runs]),
        "last": cell([run.last for run in runs]),
        "best": cell([run.best for run in runs]),
        "human": format_percent(normalized),
        "hours": format_duration(float(np.mean([run.seconds for run in runs]))),
    }


def _length(runs: Sequence[Run]) -> str:
    """Return the length of runs as text, in frames for Atari and else in steps."""
    fewest, most = (choose(runs, key=lambda run: run.steps) for choose in (min, max))
    unit = "frames" if most.frames_per_step > 1 else "steps"
    shown = [format_count(run.frames) for run in (fewest, most)]
    return f"{' to '.join(dict.fromkeys(shown))} {unit}"


def standing_section(groups: Sequence[Group]) -> Section | None:
    """Return the section that compares each agent with others at its frames; None if there are no reference scores."""
    tables = []
    for group in groups:
        score = score_of_group(group)
        if score is None or reference_score(group.env) is None:
            continue
        tables.append(
            {
                "agent": group.agent,
                "env": group.env,
                "score": format_interval(score.mean, score.low, score.high),
                "what": LAST,
                "frames": format_count(score.frames),
                "normalized": format_percent(human_normalized_score(group.env, score.mean)),
                "rows": _baseline_rows(group, score),
                "has_published": group.has_published_rules and score.frames >= MILLION / 2,
                "protocol": describe_rules(group.protocol),
                "has_published_rules": group.has_published_rules,
            }
        )
    return Section("standing", "Comparison with others", {"tables": tables}) if tables else None


def _verdict(row: Baseline) -> str:
    """Return whether an agent is inside, above or below the spread of a published one; empty if that has none."""
    if row.deviations is None:
        return ""
    return f"{'inside' if row.is_inside else 'above' if row.deviations > 0 else 'below'} the spread"


def _baseline_rows(group: Group, score: GroupScore) -> list[dict[str, str]]:
    """Return the cells of each baseline of an agent."""
    called = {"random": "random play", "human": "a person"}
    return [
        {
            "name": called.get(row.name, row.name),
            "mean": format_score(row.mean) + ("" if row.std is None else f" ± {format_score(row.std)}"),
            "seeds": "" if row.seeds is None else str(row.seeds),
            "normalized": format_percent(row.human_normalized),
            "ratio": "–" if row.ratio is None else f"{row.ratio:.2f}".replace("-", "−"),
            "deviations": "" if row.deviations is None else format_signed(row.deviations),
            "verdict": _verdict(row),
        }
        for row in baselines(group.env, score.mean, score.frames, group.protocol)
    ]
