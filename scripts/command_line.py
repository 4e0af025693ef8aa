"""Command lines from dataclasses, parsed by tyro, with errors of one line."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import io
import itertools
import json
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from pixelq.agents.errors import RunFailed, UserError

STDOUT = Path("-")
"""File that `--json` without a value stands for."""
Args = TypeVar("Args")


def parse(kind: type[Args], verb: str, arguments: Sequence[str], default: Args | None = None) -> Args:
    """Return the dataclass that a command line describes; `--help` prints the flags and exits.

    Nested dataclasses whose fields name a group in their metadata are shown by `--help` in these groups.

    Args:
        kind: The dataclass.
        verb: Name of the command after `pixelq`.
        arguments: The command line without the command.
        default: Values of flags that are not given; None for the defaults of the dataclass.

    Raises:
        UserError: If the command line does not fit.
    """
    if "" in arguments:
        raise UserError(f"an argument is empty; give it a value or leave it out; pixelq {verb} --help lists the flags")
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            start = tyro.MISSING_NONPROP if default is None else default
            return tyro.cli(kind, prog=f"pixelq {verb}", args=list(arguments), default=start, registry=_grouping(kind))
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(_one_line(errors.getvalue(), verb)) from None


def optional_value(arguments: Sequence[str], flag: str, missing: str = str(STDOUT)) -> list[str]:
    """Return the arguments with a value for each flag that may lack one, because tyro knows no optional values.

    Args:
        arguments: The command line.
        flag: The flag.
        missing: Value to add where the flag has none.
    """
    filled = []
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue="--"):
        filled.append(argument)
        if argument == flag and following.startswith("-") and following != missing:
            filled.append(missing)
    return filled


def check_least(*counts: tuple[str, int | None, int]) -> None:
    """Check that numbers are large enough.

    Args:
        counts: Flag, value and least value of each; the value None is not checked.

    Raises:
        UserError: If one is less.
    """
    for flag, value, least in counts:
        if value is not None and value < least:
            raise UserError(f"{flag} must be at least {least}, got {value}")


def make_folder(folder: Path, flag: str) -> None:
    """Create a folder unless it exists.

    Args:
        folder: The folder.
        flag: Flag that names it, for the error.

    Raises:
        UserError: If it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); use another {flag} folder") from error


def check_writable(path: Path, flag: str) -> None:
    """Create the folder of a file, and check that the file can be written, which leaves it unchanged.

    Args:
        path: The file.
        flag: Flag that names it, for the error.

    Raises:
        UserError: If it cannot be written.
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
    """Write JSON to a file, or as one line to stdout.

    Args:
        values: JSON values.
        path: The file; `-` for stdout.
        indent: Number of spaces by which a file is indented; None for one line.

    Raises:
        RunFailed: If the file cannot be written, for example because the disk is full.
    """
    if path == STDOUT:
        print(json.dumps(values))
        return
    try:
        path.write_text(json.dumps(values, indent=indent) + "\n")
    except OSError as error:
        raise RunFailed(
            f"the figures cannot be written to {path} ({error.strerror}); what is printed above is complete"
        ) from error


def _one_line(box: str, verb: str) -> str:
    """Return the text of tyro's framed message as one line, with a hint at the help if it suggests nothing."""
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


def _grouping(kind: type) -> ConstructorRegistry:
    """Return tyro's rules for those fields of a dataclass that are themselves dataclasses with groups of fields."""
    registry, texts = ConstructorRegistry(), _field_docstrings(kind)
    for name, nested in get_type_hints(kind).items():
        if dataclasses.is_dataclass(nested) and all("group" in field.metadata for field in dataclasses.fields(nested)):
            registry.struct_rule(_group_rule(nested, name, texts.get(name, "")))
    return registry


def _group_rule(kind: Any, prefix: str, text: str) -> Callable[[StructTypeInfo], StructConstructorSpec | None]:
    """Return tyro's rule that makes a dataclass from one part for each group of its fields.

    tyro's help has a section for each part. The flags are `--PREFIX.FIELD`, as without parts.

    Args:
        kind: The dataclass.
        prefix: Name of the field that holds it.
        text: Help text of that field, which is shown above its first group.
    """

    def rule(info: StructTypeInfo) -> StructConstructorSpec | None:
        if info.type is not kind:
            return None
        parts = [
            StructFieldSpec(f"part{i}", Annotated[part, _title(prefix, group, "" if i else text)], part())  # type: ignore[arg-type]
            for i, (group, part) in enumerate(_parts(kind, prefix, info.default).items())
        ]
        return StructConstructorSpec(join, tuple(parts))

    def join(**parts: Any) -> Any:
        return kind(**{name: value for part in parts.values() for name, value in vars(part).items()})

    return rule


def _title(prefix: str, group: str, text: str) -> Any:
    return tyro.conf.arg(name=f"{prefix}: {group}", prefix_name=False, help=text)


def _parts(kind: Any, prefix: str, default: Any) -> dict[str, Any]:
    """Return, by group, a dataclass of the fields of that group, whose defaults are the values of `default`."""
    hints, texts = get_type_hints(kind), _field_docstrings(kind)
    groups: dict[str, list[tuple[str, Any, Any]]] = {}
    for field in dataclasses.fields(kind):
        name = tyro.conf.arg(name=f"{prefix}.{field.name}", prefix_name=False)
        value = dataclasses.field(default=getattr(default, field.name), metadata={"help": texts.get(field.name)})
        groups.setdefault(field.metadata["group"], []).append((field.name, Annotated[hints[field.name], name], value))
    return {group: dataclasses.make_dataclass(kind.__name__, fields) for group, fields in groups.items()}


def _field_docstrings(kind: type) -> dict[str, str]:
    """Return the string literals below the fields of a dataclass, by field; none where the source is missing."""
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError):
        return {}
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for field, below in itertools.pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            texts[field.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return texts
