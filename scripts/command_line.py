"""Command lines from dataclasses, by tyro, with errors of one line."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from pixelq.agents.errors import UserError

STDOUT = Path("-")
"""What ``--json`` without a file means."""
Args = TypeVar("Args")


def parse(kind: type[Args], verb: str, arguments: Sequence[str], default: Args | None = None) -> Args:
    """The dataclass that a command line describes; ``--help`` prints the flags and exits.

    Raises:
        UserError: the command line does not fit.
    """
    if "" in arguments:
        raise UserError(f"an argument is empty; give it a value or leave it out; pixelq {verb} --help lists the flags")
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            start = tyro.MISSING_NONPROP if default is None else default
            return tyro.cli(kind, prog=f"pixelq {verb}", args=list(arguments), default=start)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(_one_line(errors.getvalue(), verb)) from None


def optional_value(arguments: Sequence[str], flag: str, missing: str = str(STDOUT)) -> list[str]:
    """The arguments with ``missing`` after each ``flag`` that has no value: tyro knows no optional values."""
    filled = []
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue="--"):
        filled.append(argument)
        if argument == flag and following.startswith("-") and following != missing:
            filled.append(missing)
    return filled


def check_least(*counts: tuple[str, int | None, int]) -> None:
    """Sees that the value of each flag (flag, value, least) is at least that; None is no value.

    Raises:
        UserError: one is not.
    """
    for flag, value, least in counts:
        if value is not None and value < least:
            raise UserError(f"{flag} is {value}; it must be at least {least}")


def make_folder(folder: Path, flag: str) -> None:
    """Makes a folder if it is not there.

    Raises:
        UserError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); use another {flag} folder") from error


def check_writable(path: Path, flag: str) -> None:
    """Makes the file's folder, and sees beforehand whether the file can be written; it is left as it was.

    Raises:
        UserError: it cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        path.open("a").close()
        if is_new:
            path.unlink()
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); use another {flag} file") from error


def write_json(values: Any, path: Path, indent: int | None = None) -> None:
    """Writes JSON to a file, or a line of it to stdout for the path ``-``."""
    if path == STDOUT:
        print(json.dumps(values))
    else:
        path.write_text(json.dumps(values, indent=indent) + "\n")


def _one_line(box: str, verb: str) -> str:
    """The text of tyro's framed message, without the frame; where it suggests nothing, it says who lists the flags."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip("│ ") for line in text.splitlines() if set(line) - set("╭╮╰╯│─- ")]
    sentence = " ".join(lines[1:] or lines)  # the first is the frame's title
    sentence = re.sub(r" ?For full helptext.*", "", sentence)
    sentence = re.sub(r"^Error parsing agent: ", "", sentence)  # AgentConfig's own sentence follows
    sentence = re.sub(r"invalid literal for int\(\) with base 10: (\S+)", r"\1 is not an integer;", sentence)
    sentence = re.sub(r"could not convert string to float: (\S+)", r"\1 is not a number;", sentence)
    sentence = sentence.replace("; Argument helptext:", ";")
    if sentence.startswith("Unrecognized options") and "Perhaps you meant" not in sentence:
        sentence += f"; pixelq {verb} --help lists the flags"
    return sentence
