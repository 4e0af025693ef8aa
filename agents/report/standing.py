"""Sections of scores: the summary, and the comparison with random play, a human player and published agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pixelq.agents.report.across import missing_for_aggregates
from pixelq.agents.report.page import Section
from pixelq.agents.results.baselines import baselines
from pixelq.agents.results.comparison import MILLION, PUBLISHED_AS
from pixelq.agents.results.formatting import (
    describe_rules,
    format_count,
    format_duration,
    format_interval,
    format_percent,
    format_score,
    format_signed,
)
from pixelq.agents.results.records import Group, MeanReturn, Run, trained_agent_of
from pixelq.agents.results.scores import FINAL, LAST, GroupScore, mean_over_seeds, score_of_group
from pixelq.envs import human_normalized_score, reference_score


def summary_section(groups: Sequence[Group]) -> Section:
    """Return the section with the scores of each agent, in a table for each environment."""
    envs = list(dict.fromkeys(group.env for group in groups))
    tables = []
    for env in envs:
        rows = [_row(group) for group in groups if group.env == env]
        is_published = any(group.published_env for group in groups if group.env == env)
        reference = reference_score(env) if is_published else None
        if reference is not None:
            rows += [
                {
                    "agent": called,
                    "fresh": format_score(score),
                    "human": format_percent(human_normalized_score(env, score)),
                }
                for called, score in (("random play", reference.random), ("human player", reference.human))
            ]
        tables.append({"env": env, "rows": rows})
    values = {"tables": tables, "fresh": FINAL, "last": LAST, "no_aggregates": missing_for_aggregates(groups)}
    return Section("summary", "Summary", values)


def _row(group: Group) -> dict[str, Any]:
    """Return the cells of an agent on an environment."""
    runs = group.runs

    def cell(scores: Sequence[MeanReturn | None]) -> str:
        found = [score for score in scores if score is not None]
        return format_interval(*mean_over_seeds(found)) if len(found) == len(runs) else "–"

    score = score_of_group(group)
    normalized = None if score is None else human_normalized_score(group.published_env, score.mean)
    return {
        "agent": group.label,
        "seeds": f"{len(runs)} (seed{'s' if len(runs) > 1 else ''} {', '.join(run.seed for run in runs)})",
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
        score, limit = score_of_group(group), group.evaluation_limit
        if score is None or reference_score(group.published_env) is None:
            continue
        tables.append(
            {
                "agent": group.label,
                "env": group.env,
                "training": _training_beside_published(group),
                "score": format_interval(score.mean, score.low, score.high),
                "what": LAST + ("" if limit is None else f" (games were cut off after {limit:,} steps)"),
                "frames": format_count(score.frames),
                "normalized": format_percent(human_normalized_score(group.published_env, score.mean)),
                "rows": _baseline_rows(group, score),
                "has_published": group.has_published_rules and score.frames >= MILLION / 2,
                "protocol": describe_rules(group.protocol),
                "has_published_rules": group.has_published_rules,
                "is_cut": group.is_cut,
            }
        )
    return Section("standing", "Comparison with others", {"tables": tables}) if tables else None


def _training_beside_published(group: Group) -> str | None:
    """Return a sentence that compares the last million frames of training with those of the same published agent.

    Returns None if no agent with the group's settings was published, or the runs are shorter than a million frames.
    """
    agent, frames = PUBLISHED_AS.get(group.preset), min(run.frames for run in group.runs)
    # A name beside other runs also says what tells them apart, such as their steps
    is_preset = all(trained_agent_of(run.config) == group.preset for run in group.runs)
    if agent is None or not is_preset or not group.has_published_rules or frames < MILLION:
        return None
    means = [_mean_return(run, frames - MILLION, frames) for run in group.runs]
    found = [mean for mean in means if mean is not None]
    if len(found) < len(means):
        return None
    mean = float(np.mean(found))
    for row in baselines(group.published_env, mean, frames - MILLION // 2, group.protocol):
        if row.name == agent and row.deviations is not None:
            where = "inside" if row.is_inside else "above" if row.deviations > 0 else "below"
            return (
                f"Training episodes of its last million frames returned {format_score(mean)}; those of the published "
                f"{agent} returned {format_score(row.mean)} ± {format_score(row.std)} over {row.seeds} seeds there: "
                f"{where} the spread ({format_signed(row.deviations)} standard deviations)."
            )
    return None


def _mean_return(run: Run, start: int, end: int) -> float | None:
    """Return the mean return of the training episodes between two numbers of frames; None if none ended there."""
    metrics = run.metrics
    number = np.diff(metrics["episodes"], prepend=0.0)
    is_there = (metrics["frames"] > start) & (metrics["frames"] <= end) & np.isfinite(metrics["return_mean"])
    is_there &= number > 0
    return float(np.average(metrics["return_mean"][is_there], weights=number[is_there])) if is_there.any() else None


def _baseline_rows(group: Group, score: GroupScore) -> list[dict[str, str]]:
    """Return the cells of each baseline of an agent."""
    called = {"random": "random play", "human": "human player"}
    return [
        {
            "name": called.get(row.name, row.name),
            "mean": format_score(row.mean) + ("" if row.std is None else f" ± {format_score(row.std)}"),
            "seeds": "" if row.seeds is None else str(row.seeds),
            "normalized": format_percent(row.human_normalized),
            "ratio": "–" if row.ratio is None else f"{row.ratio:.2f}".replace("-", "−"),
        }
        for row in baselines(group.published_env, score.mean, score.frames, group.protocol)
        if row.std is None or group.has_published_rules
    ]
