"""A configuration in few words: by the preset that it is nearest to."""

from __future__ import annotations

from dataclasses import fields

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.presets import PRESETS, preset
from pixelq.agents.config.schedules import NamedSchedule, shown_setting


def described(config: AgentConfig) -> str:
    """Return a configuration as an expression that makes it, from the preset or the defaults that it is nearest to."""
    bases = {"AgentConfig()": AgentConfig()} | {f"preset({name!r})": preset(name) for name in PRESETS}
    changes = {name: _changes(base, config) for name, base in bases.items()}
    name = min(changes, key=lambda base: len(changes[base]))
    if not changes[name]:
        return name
    settings = ", ".join(f"{field}={_expression(value)}" for field, value in changes[name].items())
    return f"AgentConfig({settings})" if name == "AgentConfig()" else f"replace({name}, {settings})"


def _changes(base: AgentConfig, config: AgentConfig) -> dict[str, object]:
    """Return the fields in which a configuration differs from another, with its own values."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {name: value for name, value in values.items() if value != getattr(base, name)}


def _expression(value: object) -> str:
    """Return a value as an expression; a function by its name."""
    return shown_setting(value) if callable(value) and not isinstance(value, NamedSchedule) else repr(value)
