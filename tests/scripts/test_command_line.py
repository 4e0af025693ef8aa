"""Command lines from dataclasses whose fields are in groups."""

import contextlib
import dataclasses
import io
import re
from dataclasses import dataclass, field

import pytest

from pixelq.agents import AgentConfig, InvalidConfig, preset
from pixelq.agents.errors import UserError
from pixelq.scripts.command_line import parse
from pixelq.scripts.flags.train import TrainArgs


@dataclass(frozen=True)
class Args:
    """Do something."""

    agent: AgentConfig = field(default_factory=lambda: preset("quick"))
    """The settings of
    the agent."""


def help_of(kind: type) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as stop:
        parse(kind, "train", ["--help"])
    assert stop.value.code == 0
    return out.getvalue()


def test_help_shows_the_fields_by_group() -> None:
    expected: dict[str, list[str]] = {}
    for each in dataclasses.fields(AgentConfig):
        expected.setdefault(each.metadata["group"], []).append(each.name)
    found: dict[str, list[str]] = {}
    for line in help_of(TrainArgs).splitlines():
        if heading := re.search(r"agent: (.+) options", line):
            found[heading[1]] = []
        elif flag := re.match(r"\W*--agent\.([a-z-]+)", line):
            list(found.values())[-1].append(flag[1].replace("-", "_"))
    assert found == expected


def test_the_text_of_the_field_stands_above_its_first_group() -> None:
    lines = help_of(Args).splitlines()
    (first,) = (i for i, line in enumerate(lines) if "agent: returns and targets options" in line)
    assert "The settings of the agent." in "".join(lines[first + 1 : first + 3])  # a line may be the frame's
    assert "".join(lines).count("The settings of the agent.") == 1


def test_flags_set_their_fields_and_leave_the_others() -> None:
    words = ["--agent.gamma", "0.5", "--agent.batch_size=7", "--agent.no-prioritized", "--agent.reward-clip", "None"]
    start = preset("rainbow")
    expected = dataclasses.replace(start, gamma=0.5, batch_size=7, prioritized=False, reward_clip=None)
    assert parse(Args, "train", words, Args(start)).agent == expected
    assert parse(Args, "train", []).agent == preset("quick")


def test_the_errors_are_those_of_the_configuration() -> None:
    with pytest.raises(InvalidConfig) as refusal:
        AgentConfig(gamma=1.5)
    with pytest.raises(UserError) as error:
        parse(Args, "train", ["--agent.gamma", "1.5"])
    assert str(error.value) == str(refusal.value) == "gamma must be in [0, 1], got 1.5"
