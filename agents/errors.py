"""The errors of this package: what a user can mend, and what ends a run.

Messages name parameters as Python callers write them, in backticks: `out`, `resume=True`. The command line prints these
as its flags, `--out` and `--resume`.
"""

from __future__ import annotations

import errno
from pathlib import Path

LONGEST_SENTENCE = 500
"""Most characters of an error's sentence."""


def printable(text: str, most: int = LONGEST_SENTENCE) -> str:
    """Return text as one line of at most `most` printable characters, for the terminal.

    Paths, names and what files hold are written by others, and may hold anything. Characters that cannot be printed,
    such as those that control a terminal, are written as in a string literal; text that is too long loses its middle.
    """
    if len(text) <= most and text.isprintable():
        return text
    text = " ".join(_shortened(text, 2 * most).split())
    return _shortened("".join(each if each.isprintable() else repr(each)[1:-1] for each in text), most)


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line, to be part of a sentence."""
    return printable(str(error), 300)


def _shortened(text: str, most: int) -> str:
    end = most // 4
    return text if len(text) <= most else f"{text[: most - end - 3]}...{text[-end:]}"


class UserError(ValueError):
    """The input is wrong. The message says what is wrong and what would be right; the command line exits with 2."""

    def __str__(self) -> str:
        return printable(super().__str__())


class RunFailed(RuntimeError):
    """Something failed that the input is not to blame for; the command line exits with 1."""

    def __str__(self) -> str:
        return printable(super().__str__())


class InvalidConfig(UserError):
    """A configuration that cannot be run."""


class UnregisteredPart(InvalidConfig):
    """A configuration that names an encoder, a head or a target rule that is neither built in nor registered."""


class InvalidCheckpoint(UserError):
    """A checkpoint that is missing, damaged or of another agent."""


class LostReplay(InvalidCheckpoint):
    """A block of the replay is damaged. The run can go on without it, with an empty replay."""


class InvalidRun(UserError):
    """A run folder that cannot be used."""


class InvalidSpec(UserError):
    """A specification of a sweep that is no such, or that does not fit what the sweep has begun."""


class InvalidScores(UserError):
    """Scores that the statistics are not made for."""


class MissingExtra(UserError, ImportError):
    """An optional dependency is not installed; the message says how to install it."""


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra, for messages: from an index of packages, or from a checkout."""
    return f"pip install 'pixelq[{extra}]', or pip install '.[{extra}]' in a checkout"


class TrainingDiverged(RunFailed):
    """The loss or a weight is no longer finite; the message names the step."""


class ActorLost(RunFailed):
    """An actor, or its node, has died; the training starts it anew unless it dies again before it plays."""


class LearnerLost(RunFailed):
    """Another of several learners has died or failed, and so this one cannot go on."""


class CallbackFailed(RunFailed):
    """A callback raised an error, from which this one comes.

    Args:
        what: Which callback failed, and how.

    Attributes:
        kept: The end of the sentence, about the last checkpoint.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what, self.kept = what, ""

    def __str__(self) -> str:
        return printable(f"{self.what}{self.kept}")


class RunUnwritable(RunFailed):
    """A run folder can no longer be written, for example because the disk is full.

    Args:
        out: The folder.
        error: What the operating system reported.
        when: How far the run had come.
        kept: The end of the sentence, about the last checkpoint.
    """

    def __init__(self, out: Path | None, error: OSError, when: str, kept: str = "") -> None:
        super().__init__(out, error, when, kept)
        self.out, self.error, self.when, self.kept = out, error, when, kept

    def __str__(self) -> str:
        what = f"{self.out} can no longer be written ({self.error.strerror or self.error}), {self.when}"
        condition = "no other process writes there" if self.error.errno == errno.ESTALE else "it can"
        return printable(f"{what}; `resume=True` continues when {condition}{self.kept}")
