"""Command lines from dataclasses, parsed by tyro, with errors of one line."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import errno
import functools
import importlib
import io
import itertools
import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, cast, get_args, get_type_hints

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from pixelq.agents.config.field_texts import field_texts
from pixelq.agents.config.schedule_texts import EXAMPLE, parse_schedule
from pixelq.agents.config.schedules import Schedule, shown_setting
from pixelq.agents.errors import InvalidConfig, RunFailed, UserError, printable
from pixelq.agents.runs.tables import read_config
from pixelq.agents.storage.files import is_stream, replace_file, user_path

STDOUT = Path("-")
"""File that `--json` without a value stands for."""
MOST_FOLDERS = 500
"""Most folders in a path; `Path.mkdir` calls itself for each."""
Args = TypeVar("Args")
_SENTENCES = {
    r"^Error parsing (\S+): no type .*'int'>: (.*) is not an integer.*": r"\1 must be an integer or None, got \2",
    r"^Error parsing (\S+): no type .*to float: (.*)": r"\1 must be a number or None, got \2",
    r"^Error parsing (\S+): no type .*tuple\[int.*for arguments: (.*)": r"\1 must be integers or None, got \2",
    r"^Error parsing (\S+): (?:schedule )?(must be .*)": r"\1 \2",
    r"^Error parsing (\S+): schedule (.*)": r"\1: \2",
    r"^Error parsing (\S+): (.*) is not an integer": r"\1 must be an integer, got \2",
    r"^Error parsing (\S+): could not convert string to float: (.*)": r"\1 must be a number, got \2",
    r"^invalid choice (.*) for argument '(.*)'\. Expected one of (\(.*\))\.": r"\2 must be one of \3, got \1",
    r"^Missing value for argument '(.*)'\. Expected.*": r"\1 needs a value",
    r"^Error parsing --wrappers: ": "",  # the sentence of pixelq.envs.named follows
    r"^Missing from pixelq \w+: ": "missing: ",
}
"""What becomes of tyro's messages, as patterns and replacements."""
EnvKwargs = Annotated[
    dict[str, Any],
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="VALUE",
        instance_from_str=lambda words: json.loads(words[0]),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    ),
    tyro.conf.arg(name="env-kwargs.KEY"),
]
"""Type of a field for `--env-kwargs.KEY VALUE`, which `take_env_kwargs` reads."""
Names = Annotated[
    tuple[str, ...],
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="MODULE:NAME,...",
        instance_from_str=lambda words: _split_names(words[0]),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda names: [",".join(names)],
    ),
]
"""Type of a field for classes and functions by name, as `pixelq.envs.named` has them."""
Modules = Annotated[
    tuple[str, ...], tyro.conf.arg(name="import", metavar="MODULE[,MODULE...]"), tyro.conf.UseAppendAction
]
"""Type of a field for `--import`, whose values `split_modules` splits."""
Callbacks = Annotated[
    tuple[str, ...], tyro.conf.arg(name="callback", metavar="NAME[,NAME...]"), tyro.conf.UseAppendAction
]
"""Type of a field for `--callback`, whose values `parse_callbacks` takes."""


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
    if arguments and arguments[0].replace("_", "-").startswith("--tyro-"):
        raise UserError("completion is made for all verbs together; use pixelq --tyro-print-completion SHELL")
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            args: Args
            args, unknown = tyro.cli(
                kind,
                prog=f"pixelq {verb}",
                args=list(arguments),
                default=tyro.MISSING_NONPROP if default is None else default,
                registry=registry(kind),
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if stop.code != 2:  # of `--help`, or of a signal
            raise
        raise UserError(_one_line(errors.getvalue())) from None
    if unknown:
        raise UserError(
            _about_unknown(next((each for each in unknown if each.startswith("-")), unknown[0]), kind, verb)
        )
    given: Any = args
    return cast(Args, dataclasses.replace(given, **{name: _followed(value) for name, value in vars(given).items()}))


def _followed(value: Any) -> Any:
    """Return a path, or each of a tuple of them, with `~` as the home directory; any other value as it is.

    Raises:
        UserError: If a path cannot be followed; see `_check_path`.
    """
    if isinstance(value, tuple):
        return tuple(map(_followed, value))
    if not isinstance(value, Path):
        return value
    _check_path(value)
    return user_path(value)


def take_env_kwargs(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Return the arguments without `--env-kwargs.KEY VALUE`, and the values by key.

    A value is TOML or JSON, or else text; `True`, `False` and `None` are Python's.

    Raises:
        UserError: If a key is no name or stands there twice, or a value is missing.
    """
    return take_values(arguments, "--env-kwargs", "size 5")


def take_values(arguments: Sequence[str], beginning: str, example: str) -> tuple[list[str], dict[str, Any]]:
    """Return the arguments without `BEGINNING.KEY VALUE`, and the values by key, as `take_env_kwargs` does.

    Args:
        arguments: The command line.
        beginning: Beginning of the flags.
        example: A key and a value, for messages.

    Raises:
        UserError: See `take_env_kwargs`.
    """
    rest, values, waiting = list[str](), dict[str, Any](), list(reversed(arguments))
    while waiting:
        argument = waiting.pop()
        flag, equals, value = argument.partition("=")
        found, _, key = flag.replace("_", "-").partition(".")
        if found != beginning:
            rest.append(argument)
            continue
        key = flag[len(beginning) + 1 :].replace("-", "_")
        if not key.isidentifier():
            raise UserError(f"{printable(flag, 80)} must name an argument, as {beginning}.{example} does")
        if key in values:
            raise UserError(f"{beginning}.{key} is given twice; give it once")
        if not equals and not waiting:
            raise UserError(f"{beginning}.{key} needs a value")
        values[key] = _value_of(value if equals else waiting.pop())
    return rest, values


def _value_of(text: str) -> Any:
    """Return the value of a text in TOML or JSON; the text itself if it is neither, or has no such value in JSON."""
    words = {"True": True, "False": False, "None": None}
    if text in words:
        return words[text]
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text, parse_constant=lambda name: name)  # NaN and its like are words
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        found = tomllib.loads(f"value = {text}")
        json.dumps(found, allow_nan=False)  # refuses dates and infinities
        if found.keys() == {"value"}:
            return found["value"]
    return text


def _split_names(text: str) -> tuple[str, ...]:
    """Return the names in a list with commas between them, each as it is written in files.

    Raises:
        ValueError: If one is no name.
    """
    named = importlib.import_module("pixelq.envs.named")  # by name, since its package imports Gymnasium
    return tuple(str(named.parse_named(name, "wrapper")) for name in named.split_named(text))


def split_names(text: str) -> list[str]:
    """Return the names in a text with commas between them, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",")))


def split_modules(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the names of modules in the values of `--import`, several in a text with commas between them.

    Raises:
        UserError: If a name is missing.
    """
    names = tuple(name.strip() for text in texts for name in text.split(","))
    if not all(names):
        raise UserError(f"--import must be MODULE or MODULE,MODULE, got {printable(','.join(texts), 80)!r}")
    return names


def allow_working_folder() -> None:
    """Let modules be imported from the working folder, after all that is installed.

    This is for command lines that name a module. Without one, nothing in the folder, which may be a stranger's, is ever
    imported.
    """
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)


def _check_path(path: Path) -> None:
    """Check that a path can be followed, whether something lies there or not.

    Raises:
        UserError: If a name is too long, links lead in a circle, or there are more folders than `mkdir` can create.
    """
    why = f"more than {MOST_FOLDERS} folders" if len(path.parts) > MOST_FOLDERS else None
    try:
        path.stat()
    except ValueError as error:  # a character that no path has
        why = str(error)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            why = error.strerror
    if why is not None:
        raise UserError(f"{path} is no path that can be followed ({why}); give another")


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


def check_runs(runs: Sequence[Path]) -> None:
    """Check that runs are given, and that each folder holds one, before PyTorch is imported to read them.

    Raises:
        UserError: If there is none.
    """
    if not runs:
        raise UserError("no run is given; give the folder of one or more")
    for run in runs:
        read_config(run)


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
        if is_stream(path) or not path.is_symlink():  # a link is replaced
            path.open("a").close()
        if is_new and not path.is_symlink():
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
        return print(json.dumps(values))
    try:
        replace_file(path, (json.dumps(values, indent=indent) + "\n").encode())
    except OSError as error:
        raise RunFailed(
            f"the figures cannot be written to {path} ({error.strerror}); what is printed above is complete"
        ) from error


def _one_line(box: str) -> str:
    """Return the text of tyro's framed message as one line in the style of our own."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip("│ ") for line in text.splitlines() if set(line) - set("╭╮╰╯│─- ")]
    sentence = " ".join(lines[1:] or lines)  # the first is the frame's title
    sentence = re.sub(r" ?(Argument helptext:|For full helptext).*", "", sentence)
    sentence = re.sub(r"^Error parsing agent: ", "", sentence)  # AgentConfig's own sentence follows
    for pattern, ours in _SENTENCES.items():
        sentence = re.sub(pattern, ours, sentence)
    if choices := re.match(r"(--\S+ must be one of )\((.*)\)(, got .*)", sentence):
        sentence = choices[1] + choices[2].replace("'", "").rstrip(",") + choices[3]
    return sentence


def _about_unknown(argument: str, kind: type, verb: str) -> str:
    """Return a sentence about an argument that is none of a dataclass, with the flag that was probably meant."""
    shown, hint = printable(argument.partition("=")[0], 80), f"pixelq {verb} --help lists the flags"
    if not argument.startswith("-"):
        return f"unexpected argument {shown!r}; {hint}"
    meant = closest_flag(argument, kind)
    return f"unknown flag {shown}; {hint if meant is None else f'did you mean {meant}?'}"


def closest_flag(typed: str, kind: type) -> str | None:
    """Return the flag of a dataclass that was probably meant, or None.

    It is one with the same last part (`--gamma` for `--agent.gamma`), of a field with that name (`--modules` for
    `--import`), with the typed initials (`--agent.lr`), with the typed beginning (`--checkpoint`), or spelled alike.

    Args:
        typed: The flag as it was typed.
        kind: The dataclass.
    """
    name = typed.partition("=")[0].lower().replace("_", "-").lstrip("-")[:80]
    flags = _flags(kind)
    ends = {flag: flag.rpartition(".")[2] for flag in flags}
    end = name.rpartition(".")[2]
    found = [flag for flag in flags if ends[flag] == end]
    found += [flag for flag, field in flags.items() if field == name]
    found += [flag for flag in flags if len(end) > 1 and "".join(w[0] for w in ends[flag].split("-")) == end]
    found += [flag for flag in flags if len(end) > 2 and ends[flag].startswith(end)]
    found += difflib.get_close_matches(name, flags, 1)
    found += [flag for near in difflib.get_close_matches(end, ends.values(), 1) for flag in flags if ends[flag] == near]
    return f"--{found[0]}" if found else None


def _flags(kind: Any) -> dict[str, str]:
    """Return the flags of a dataclass, without their two dashes, and the field of each, written as a flag is."""
    flags: dict[str, str] = {}
    for field, hint in get_type_hints(kind, include_extras=True).items():
        name = field.replace("_", "-")
        marks = getattr(hint, "__metadata__", ())
        if tyro.conf.Positional in marks:
            continue
        if dataclasses.is_dataclass(hint):
            flags |= {f"{name}.{inner}": f"{name}.{of}" for inner, of in _flags(hint).items()}
            continue
        # `tyro.conf.arg` gives some flags another name than the field's.
        flag = next((mark.name for mark in marks if getattr(mark, "name", None) is not None), name)
        flags |= dict.fromkeys((flag, f"no-{flag}") if hint is bool else (flag,), name)
    return flags


def registry(*kinds: type) -> ConstructorRegistry:
    """Return tyro's rules for dataclasses: integers as `integer` reads them, and groups of fields.

    Args:
        kinds: The dataclasses. Their fields that are themselves dataclasses with groups of fields are shown in these
            groups.
    """
    rules = ConstructorRegistry()
    rules.primitive_rule(_integer_rule)
    rules.primitive_rule(_schedule_rule)
    for kind in kinds:
        texts = field_texts(kind)
        _give_texts(kind, texts)
        for name, nested in get_type_hints(kind).items():
            if dataclasses.is_dataclass(nested) and all(
                "group" in each.metadata for each in dataclasses.fields(nested)
            ):
                rules.struct_rule(_group_rule(nested, name, texts.get(name, "")))
    return rules


def _give_texts(kind: Any, texts: Mapping[str, str]) -> None:
    """Give the fields of a dataclass their texts, each on one line: tyro itself would keep the source's line breaks."""
    for field in dataclasses.fields(kind):
        if (text := texts.get(field.name)) is not None:
            field.metadata = MappingProxyType({"help": text} | dict(field.metadata))


def _integer_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[int] | None:
    if info.type is not int:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: integer(words[0]),
        is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


def _schedule_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Return tyro's rule for a field that takes a number or a schedule."""
    kinds = get_args(info.type)
    if Schedule not in kinds:
        return None
    is_count, is_optional = int in kinds, type(None) in kinds
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{'{None}|' if is_optional else ''}{'INT' if is_count else 'FLOAT'}|SCHEDULE",
        instance_from_str=lambda words: _number_or_schedule(words[0], is_count, is_optional),
        is_instance=lambda value: value is None or isinstance(value, int | float) or callable(value),
        str_from_instance=lambda value: [shown_setting(value)],
    )


def _number_or_schedule(text: str, is_count: bool, is_optional: bool) -> Any:
    """Return the number or the schedule of a text.

    Raises:
        ValueError: If it is none.
    """
    if is_optional and text == "None":
        return None
    with contextlib.suppress(ValueError):
        return integer(text) if is_count else float(text)
    if "(" in text:
        try:
            return parse_schedule(text)
        except InvalidConfig as error:
            raise ValueError(f"schedule {error}") from None
    kinds = f"{'an integer' if is_count else 'a number'}{', a schedule or None' if is_optional else ' or a schedule'}"
    raise ValueError(f"must be {kinds} such as {EXAMPLE}, got {text!r:.80}")


def integer(text: str) -> int:
    """Return the integer of a text such as `1000000`, `1_000_000` or `1e6`.

    Raises:
        ValueError: If it is none.
    """
    with contextlib.suppress(ValueError):
        return int(text)
    with contextlib.suppress(InvalidOperation):
        number = Decimal(text)
        if number.is_finite() and number.adjusted() < 19 and number == number.to_integral_value():
            return int(number)
    raise ValueError(f"{text!r:.80} is not an integer")


def _group_rule(kind: Any, prefix: str, text: str) -> Callable[[StructTypeInfo], StructConstructorSpec | None]:
    """Return tyro's rule that makes a dataclass from one part for each group of its fields.

    tyro's help has a section for each part. The flags are `--PREFIX.FIELD`, as without parts.

    Args:
        kind: The dataclass.
        prefix: Name of the field that holds it.
        text: Help text of that field, which is shown above its first group.
    """

    parts_of = functools.lru_cache(maxsize=1)(_parts)  # tyro asks more than once for the same

    def rule(info: StructTypeInfo) -> StructConstructorSpec | None:
        if info.type is not kind:
            return None
        parts = [
            StructFieldSpec(f"part{i}", Annotated[part, _title(prefix, group, "" if i else text)], part())  # type: ignore[arg-type]
            for i, (group, part) in enumerate(parts_of(kind, prefix, info.default).items())  # type: ignore[arg-type]
        ]
        return StructConstructorSpec(join, tuple(parts))

    def join(**parts: Any) -> Any:
        return kind(**{name: value for part in parts.values() for name, value in vars(part).items()})

    return rule


def _title(prefix: str, group: str, text: str) -> Any:
    return tyro.conf.arg(name=f"{prefix}: {group}", prefix_name=False, help=text)


def _parts(kind: Any, prefix: str, default: Any) -> dict[str, Any]:
    """Return, by group, a dataclass of the fields of that group, whose defaults are the values of `default`."""
    hints, texts = get_type_hints(kind), field_texts(kind)
    groups: dict[str, list[tuple[str, Any, Any]]] = {}
    for field in dataclasses.fields(kind):
        name = tyro.conf.arg(name=f"{prefix}.{field.name}", prefix_name=False)
        value = dataclasses.field(default=getattr(default, field.name), metadata={"help": texts.get(field.name)})
        groups.setdefault(field.metadata["group"], []).append((field.name, Annotated[hints[field.name], name], value))
    return {group: dataclasses.make_dataclass(kind.__name__, fields) for group, fields in groups.items()}
