"""Classes and functions by name, as in `module:Grid(size=5)`: parsed, imported if the user trusts them, and named.

Names stand on the command line and in files of runs. Whoever wrote a file must not choose which code runs, so a name is
only followed if the user named its module in this process, see `trust`. Python's `sys.modules` says nothing about that:
it holds `subprocess`.
"""

import ast
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import gymnasium

from pixelq.envs.errors import InvalidEnv, quoted, reason
from pixelq.envs.failures import Failures

LONGEST_NAME = 1000
"""Most characters of a name with its arguments."""

_OPEN = ("gymnasium.wrappers", "pixelq.envs")
"""Packages whose public environments and wrappers need no trust, and from which files may name nothing else."""
_WRITES_FILES = frozenset({"RecordVideo"})
"""Those of them that do."""
_NAMED = re.compile(r"\s*([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*(?:\.[^\W\d]\w*)*)\s*(\(.*\))?\s*", re.DOTALL)
_trusted: set[str] = set()  # names of modules


@dataclass(frozen=True)
class Named:
    """A parsed name."""

    module: str
    """Name of the module, such as `package.module`."""
    name: str
    """Qualified name in the module, such as `Grid` or `Grid.small`."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments to call it with, which are Python literals."""

    def __str__(self) -> str:
        """Return the text that `parse_named` reads as this."""
        values = ", ".join(f"{key}={value!r}" for key, value in self.arguments.items())
        return f"{self.module}:{self.name}({values})" if values else f"{self.module}:{self.name}"


def is_named(text: object) -> bool:
    """Return whether a text looks like `MODULE:NAME` or `MODULE:NAME(…)`, and so not like an id with a version."""
    return isinstance(text, str) and len(text) <= LONGEST_NAME and _NAMED.fullmatch(text) is not None


def parse_named(text: str, what: str) -> Named:
    """Return the parts of `MODULE:NAME` or `MODULE:NAME(key=value, …)`, whose values are Python literals.

    Nothing is imported or evaluated.

    Args:
        text: The text.
        what: What is named, such as `wrapper`, for the error.

    Raises:
        InvalidEnv: If the text is something else.
    """
    if not isinstance(text, str) or len(text) > LONGEST_NAME:
        longest = f"MODULE:NAME(key=value) of at most {LONGEST_NAME} characters"
        raise InvalidEnv(f"the {what} must be named by a text {longest}, got {quoted(text)}")
    found = _NAMED.fullmatch(text)
    if found is None:
        raise InvalidEnv(f"the {what} must be named MODULE:NAME or MODULE:NAME(key=value), got {quoted(text)}")
    module, name, call = found.groups()
    if any(part.startswith("__") for part in name.split(".")):
        raise InvalidEnv(f"the name of the {what} must not begin with two underscores, got {quoted(text)}")
    try:
        return Named(module, name, {} if call is None else _arguments(call))
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidEnv(
            f"the arguments of the {what} must be key=value with Python literals as values, got {quoted(text)}"
        ) from error


def _arguments(call: str) -> dict[str, Any]:
    """Return the keyword arguments of a call such as `(size=5)`.

    Raises:
        SyntaxError, TypeError, ValueError, RecursionError, MemoryError: If it is something else.
    """
    tree = ast.parse(f"f{call}", mode="eval").body
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or tree.args:
        raise ValueError(call)
    values = {str(word.arg): ast.literal_eval(word.value) for word in tree.keywords if word.arg is not None}
    if len(values) != len(tree.keywords) or not all(map(_is_literal, values.values())):
        raise ValueError(call)
    return values


def _is_literal(value: Any) -> bool:
    """Return whether the `repr` of a value is a literal of the same value, which that of infinity is not."""
    if type(value) in (list, tuple, set):
        return all(map(_is_literal, value)) and not (type(value) is set and not value)
    if type(value) is dict:
        return all(map(_is_literal, value)) and all(map(_is_literal, value.values()))
    if type(value) in (float, complex):
        return bool(abs(value) < float("inf"))
    return value is None or type(value) in (bool, int, str, bytes)


def split_named(text: str) -> list[str]:
    """Return the names in a list with commas between them; commas in brackets and in quotes belong to a name.

    Raises:
        InvalidEnv: If a name is empty, or a bracket or a quote is not closed.
    """
    names, depth, quote, start, escaped = list[str](), 0, "", 0, False
    for place, char in enumerate(text):
        if quote:
            quote = "" if char == quote and not escaped else quote
            escaped = char == "\\" and not escaped
        elif char in "\"'":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth == 0:
            names.append(text[start:place].strip())
            start = place + 1
    names.append(text[start:].strip())
    if quote or depth or not all(names):
        raise InvalidEnv(f"names must be MODULE:NAME or MODULE:NAME(key=value) with commas between, got {quoted(text)}")
    return names


def trust(module: str) -> None:
    """Let names from files lead to the classes and functions of a module, and of the modules in it.

    This is called for modules that the user names: by `import_module`, by `--import`, in a text that comes from no
    file, or with a class or function that is handed over. The last two say nothing about the rest of a package whose
    environments and wrappers need no trust.
    """
    _trusted.add(module)


def _trust_use(module: str) -> None:
    """Trust a module of which the user named or handed over something."""
    if not _is_in_open(module):
        trust(module)


def import_module(module: str) -> None:
    """Import a module that registers environments or holds classes that names lead to, and trust it; see `trust`.

    Raises:
        InvalidEnv: If it cannot be imported.
    """
    imported(module)
    trust(module)


def imported(module: str) -> ModuleType:
    """Import a module without trusting it.

    Raises:
        InvalidEnv: If it cannot be imported.
    """
    with Failures(lambda error: InvalidEnv(f"the module {quoted(module)} cannot be imported: {reason(error)}")):
        return importlib.import_module(module)


def is_from_file(text: str) -> bool:
    """Return whether a text was read from a file, which its class says; see `agents.storage.environments.FromFile`."""
    return bool(getattr(text, "is_from_file", False))


def resolve(text: str, what: str) -> Callable[..., Any]:
    """Return the class or function that a name stands for; one with arguments as a `functools.partial`.

    A text that the user wrote is followed, and its module trusted from then on; see `trust`.

    Args:
        text: `MODULE:NAME` or `MODULE:NAME(key=value, …)`.
        what: What is named, such as `wrapper`, for errors.

    Raises:
        InvalidEnv: If the text comes from a file and the user has not named the module (see `trust`), or if there is no
            such class or function in it.
    """
    named = parse_named(text, what)
    if is_from_file(text):
        check_trusted(text, what)
    found = _found(imported(named.module), named.name)
    if found is None or not callable(found):
        raise InvalidEnv(f"the module {quoted(named.module)} has no class or function {quoted(named.name)}")
    defined = _module_of(found)
    if not is_from_file(text):
        _trust_use(named.module)
        _trust_use(defined)
    elif _is_in_open(defined):
        _check_open(text, what, found)
    elif not (_is_trusted(defined) or _is_same_package(defined, named)):
        raise _untrusted(text, what, defined)
    return functools.partial(found, **named.arguments) if named.arguments else found


def check_trusted(text: str, what: str) -> None:
    """Check that the user has named the module of a name in this process, and import nothing.

    Args:
        text, what: As in `resolve`.

    Raises:
        InvalidEnv: If the user has not, or the text is no name.
    """
    named = parse_named(text, what)
    if named.module in _OPEN and named.module in sys.modules:
        _check_open(text, what, _found(sys.modules[named.module], named.name))
    elif not _is_trusted(named.module):
        raise _untrusted(text, what, named.module)


def name_of(value: object) -> str | None:
    """Return the name of a class or function, or of a `functools.partial` of one; None if it has none.

    Lambdas and what is defined in a function have no name, and neither have partials with arguments that are no
    literals. A name in `__main__`, the script or notebook that runs, leads to nothing in another process.
    """
    arguments: dict[str, Any] = {}
    if isinstance(value, functools.partial):
        if value.args:
            return None
        arguments = value.keywords
        value = value.func
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    for package in _parents(module):
        holder = sys.modules.get(package)
        found = None if holder is None else _found(holder, name)
        if found is value or (inspect.ismethod(found) and found == value):
            text = str(Named(package, name, arguments))
            try:
                is_whole = parse_named(text, "object") == Named(package, name, arguments)
            except InvalidEnv:
                return None
            return text if is_whole else None
    return None


def modules_to_trust(texts: Iterable[str]) -> list[str]:
    """Return the modules that names need, without those that need no trust; ids without a module have none."""
    found = (text.partition(":")[0] for text in texts if ":" in text)
    return list(dict.fromkeys(module for module in found if module not in _OPEN))


def trust_object(value: object) -> None:
    """Trust the module of a class or function that the user handed over, also inside a `functools.partial`."""
    text = name_of(value)
    if text is not None:
        _trust_use(parse_named(text, "object").module)
        _trust_use(_module_of(value))


def _found(module: ModuleType, name: str) -> Any:
    """Return what a qualified name leads to in a module, through classes only; None for nothing."""
    found: Any = module
    for part in name.split("."):
        if found is not module and not inspect.isclass(found):
            return None
        with Failures(lambda error: InvalidEnv(f"{quoted(name)} cannot be imported: {reason(error)}")):
            found = getattr(found, part, None)  # which imports further modules in some packages
    return found


def _module_of(value: Any) -> str:
    """Return the name of the module that defines a class, a function, or an object that can be called."""
    while isinstance(value, functools.partial):
        value = value.func
    return str(getattr(value, "__module__", None))


def _parents(module: str) -> Iterator[str]:
    """Yield the names of the packages around a module, the outermost first, and then its own."""
    parts = module.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _is_trusted(module: str) -> bool:
    return not _trusted.isdisjoint(_parents(module))


def _is_same_package(module: str, named: Named) -> bool:
    """Return whether a module lies in the package of a trusted name, which may only pass on what is its own."""
    return _is_trusted(named.module) and module.partition(".")[0] == named.module.partition(".")[0]


def _is_in_open(module: str) -> bool:
    """Return whether a module is or lies in a package whose environments and wrappers need no trust."""
    return not set(_OPEN).isdisjoint(_parents(module))


def _check_open(text: str, what: str, found: object) -> None:
    """Check that a name from a file stands for an environment or wrapper that needs no trust.

    Others, such as `pixelq.envs:make_vec`, would follow names in their arguments.

    Raises:
        InvalidEnv: If it stands for something else, or for what writes files and the user has not named the package.
    """
    module, defined = parse_named(text, what).module, _module_of(found)
    if not (inspect.isclass(found) and issubclass(found, gymnasium.Env)):
        raise InvalidEnv(f"the {what} must be a class of environments or wrappers, got {quoted(text)}")
    if found.__name__ in _WRITES_FILES and not _is_trusted(defined):
        raise _untrusted(text, what, module if _is_in_open(module) else defined)


def _untrusted(text: str, what: str, module: str) -> InvalidEnv:
    if module == "__main__":
        return InvalidEnv(
            f"the {what} {quoted(text)} is defined in the script or notebook that trained; "
            "move it into a module of its own, and give that with --import"
        )
    return InvalidEnv(
        f"the {what} {quoted(text)} is code of the module {quoted(module)}, and only you can say whether to run it; "
        f"if you trust it, give --import {module}, or pixelq.envs.import_module({module!r}) in Python"
    )
