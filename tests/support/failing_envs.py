"""Environments that fail once."""

from typing import Any

import pytest

from pixelq.envs import EnvironmentFailed


def fail_at(envs: Any, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a call of `recv` of environments fail, counted from 1; they play on when they are made anew."""
    calls, recv = 0, envs.recv

    def failing() -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise EnvironmentFailed("on purpose")
        return recv()

    monkeypatch.setattr(envs, "recv", failing)
