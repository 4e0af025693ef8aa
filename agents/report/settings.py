"""Sections of configurations beside their presets, and of hardware, time and cost."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.presets import PRESET_PROTOCOLS, PRESETS
from pixelq.agents.config.schedules import shown_setting
from pixelq.agents.report.page import Section
from pixelq.agents.results.comparison import MILLION
from pixelq.agents.results.formatting import format_duration, shortened
from pixelq.agents.results.records import Group, Run, differences

DEFAULT_RULES = {"protocol": "sticky", "full_action_space": False, "flicker": 0.0, "max_episode_steps": None}
"""Rules that are not named in an agent's name; see `pixelq.agents.results.records.differences`."""

MOST_TEXT = 50_000
"""Greatest number of characters of a configuration that is shown."""


def settings_section(groups: Sequence[Group]) -> Section:
    """Return the section of configurations: differences from the preset, and the whole configuration of each run."""
    tables = []
    for group in groups:
        config = group.runs[0].config
        settings = PRESETS[group.preset]() if group.preset in PRESETS else AgentConfig()
        protocol = PRESET_PROTOCOLS.get(group.preset, "sticky")
        preset = settings.to_dict() | DEFAULT_RULES | {"protocol": protocol}
        tables.append(
            {
                "agent": group.label,
                "env": group.env,
                "preset": group.preset if group.preset in PRESETS else "the defaults",
                "rows": [
                    {"name": name, "preset": _value(preset.get(name)), "run": _value(value)}
                    for name, value in differences(config, settings, protocol).items()
                ],
                "runs": [{"path": shortened(run.name), "config": _whole(run.config)} for run in group.runs],
            }
        )
    return Section("settings", "Configuration", {"tables": tables})


def machines_section(groups: Sequence[Group], price_per_hour: float | None) -> Section:
    """Return the section of hardware, time and cost; without a price it says how to give one."""
    rows = [
        {"agent": group.label, "env": group.env, **_machine(run, price_per_hour)}
        for group in groups
        for run in group.runs
    ]
    return Section("machines", "Hardware, time and cost", {"rows": rows, "price": price_per_hour})


def _machine(run: Run, price_per_hour: float | None) -> dict[str, str]:
    """Return the cells of a run's row."""
    hardware: dict[str, Any] = run.config.get("hardware") or {}
    is_gpu = hardware.get("device", "cpu") != "cpu"
    cpu = f"{hardware.get('cpu', 'unknown processor')}, {hardware.get('cores', '?')} cores"
    seconds = run.seconds / run.frames * MILLION if run.frames and math.isfinite(run.seconds) else None
    threads = hardware.get("torch_threads", "?")
    speeds = run.metrics["steps_per_second"][run.metrics["updates"] > 0]
    return {
        "seed": run.seed,
        "hardware": shortened(f"{hardware['device']}; {cpu}" if is_gpu else cpu, 160),
        "software": shortened(f"PyTorch {hardware.get('torch', '?')}, {threads} thread{'' if threads == 1 else 's'}"),
        "version": shortened(run.config.get("version", "?")),
        "time": format_duration(run.seconds),
        "speed": f"{np.nanmedian(speeds):,.0f}" if np.isfinite(speeds).any() else "–",
        "per_million": "–" if seconds is None else format_duration(seconds),
        "cost": "–" if seconds is None or price_per_hour is None else f"{seconds / 3600 * price_per_hour:,.2f}",
    }


def _whole(config: dict[str, Any]) -> str:
    """Return a whole configuration as text, cut off where no configuration of ours ends."""
    text = json.dumps(config, indent=2, ensure_ascii=False)
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}\n…"


def _value(value: Any) -> str:
    """Return a setting as text."""
    if isinstance(value, dict):
        value = shown_setting(value)
    return shortened(json.dumps(value) if not isinstance(value, str) else value)
