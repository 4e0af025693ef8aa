"""Callbacks that a command line names."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import pixelq.agents
from pixelq.agents import Callback, RunFailed, UserError
from pixelq.agents.errors import printable
from pixelq.envs.named import Named, parse_named, resolve, split_named
from pixelq.scripts.command_line import allow_working_folder

READY = ("StopAfter", "StopAtScore", "StopWithoutProgress")
"""Callbacks of `pixelq.agents`, which are named without a module."""


def parse_callbacks(texts: Sequence[str]) -> list[Named]:
    """Return the callbacks that texts name, several in a text with commas between them.

    Raises:
        UserError: If a text names none.
    """
    names = [name for text in texts for name in split_named(text)]
    return [parse_named(name if ":" in name.partition("(")[0] else _in_agents(name), "callback") for name in names]


def _in_agents(name: str) -> str:
    kind = name.partition("(")[0].strip()
    if kind not in READY:
        raise UserError(
            f"--callback must be MODULE:NAME, MODULE:NAME(key=value) or one of {', '.join(READY)}, got {name!r:.80}"
        )
    return f"{pixelq.agents.__name__}:{name}"


def make_callbacks(names: Sequence[Named]) -> list[Callback]:
    """Import and make callbacks, also from modules in the working folder.

    Raises:
        UserError: If a module cannot be imported, has no such subclass of `Callback`, or that takes other arguments.
    """
    return [_made(name) for name in names]


def _made(name: Named) -> Callback:
    factory: Any
    if name.module == pixelq.agents.__name__:
        factory = getattr(pixelq.agents, name.name, None)
    else:
        allow_working_folder()
        factory = resolve(str(Named(name.module, name.name)), "callback")
    # Checked before it is called, since a function may do anything.
    if not inspect.isclass(factory) or not issubclass(factory, Callback) or factory is Callback:
        raise UserError(f"--callback must name a subclass of pixelq.agents.Callback, got {name}")
    try:
        made: Callback = factory(**name.arguments)
    except (UserError, RunFailed):
        raise
    except Exception as error:
        raise UserError(
            f"the callback {name} cannot be made: {type(error).__name__}: {printable(str(error), 300)}"
        ) from error
    made.made_by = str(name)
    return made
