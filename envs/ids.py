"""Environment ids: which can be played, and clear errors for those that cannot."""

import difflib
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import ale_py
import gymnasium

from pixelq.envs.errors import InvalidEnv, quoted
from pixelq.envs.minatar import is_minatar, register_minatar
from pixelq.envs.named import check_trusted, imported, is_from_file, is_named, parse_named, resolve

gymnasium.register_envs(ale_py)

NOT_SINGLE_PLAYER = frozenset({"combat", "joust", "mazecraze", "warlords"})
"""Games for which ale_py has a ROM but no single-player mode; its vector environment kills the process on them."""
LONGEST_ID = 200
"""Most characters of an id."""

_ATARI_ENTRY = "ale_py.env:AtariEnv"
_ATARI = re.compile(r"([\w.]*:)?ALE/")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def check_id(env_id: str) -> str:
    """Check that an id is known to Gymnasium, and is not one of the older Atari ids that `ALE/*-v5` replaced.

    Args:
        env_id: The id, or the name of a class or function, as in `MODULE:NAME(key=value)`. The module is imported; see
            `check_imported` for ids from files.

    Returns:
        The id, without a module that this package imports anyway; or the name.

    Raises:
        InvalidEnv: If it is not; the message names the id that was probably meant.
    """
    if not isinstance(env_id, str):
        raise InvalidEnv(f"the environment must be an id, or a class or function that makes it, got {quoted(env_id)}")
    if is_from_file(env_id):
        check_imported(env_id)
    if not isinstance(named_env(env_id), str):
        return type(env_id)(parse_named(env_id, "environment"))  # which says whether it comes from a file
    module, name = _split(env_id)
    if module is not None:
        imported(module)
        if module.partition(".")[0] == "ale_py":
            return check_id(name)
    if is_minatar(name):
        register_minatar(name)
        env_id, module = name, None
    spec = gymnasium.registry.get(name)
    if is_atari(name) and _plain(name) in NOT_SINGLE_PLAYER:
        raise InvalidEnv(f"{quoted(env_id)} has no single-player mode; choose another game")
    if spec is None and module is not None and not is_atari(name):
        return env_id  # Gymnasium adds a missing version
    if spec is None:
        raise InvalidEnv(f"unknown environment {quoted(env_id)}; {_hint(name)}")
    if spec.entry_point == _ATARI_ENTRY and not is_atari(name):
        raise InvalidEnv(
            f"{quoted(env_id)} brings its own frame skip and stickiness; use {id_of(spec.kwargs['game'])!r}"
        )
    if is_atari(name) and spec.entry_point != _ATARI_ENTRY:
        raise InvalidEnv(f"{quoted(env_id)} is no game of ale_py; register it under another name than ALE/...")
    return env_id


def named_env(env_id: str) -> str | Callable[..., Any]:
    """Return the class or function that a name stands for, or the same text if it is an id.

    `MODULE:NAME` is an id if the module registers it, with or without a version.

    Raises:
        InvalidEnv: If the module cannot be imported, there is neither in it, or the user has not named it; see
            `pixelq.envs.named.resolve`.
    """
    if not is_named(env_id):
        return env_id
    named = parse_named(env_id, "environment")
    if not named.arguments and is_from_file(env_id):
        check_imported(env_id)
    if not named.arguments and not is_from_file(env_id) and named.module not in sys.modules:
        imported(named.module)
    return env_id if not named.arguments and _is_registered(named.name) else resolve(env_id, "environment")


def _is_registered(name: str) -> bool:
    """Return whether a name without a namespace is an id, with or without a version."""
    return name in gymnasium.registry or any(
        spec.namespace is None and spec.name == name for spec in gymnasium.registry.values()
    )


def check_imported(env_id: str, arguments: Mapping[str, Any] | None = None) -> None:
    """Check that environments can be made without code that the user has not named in this process.

    This is for ids and arguments from files: whoever wrote a file must not choose what is imported or called.

    Args:
        env_id: The id, whose module must have been imported; or the name of a class or function.
        arguments: Further arguments of `make_vec`.

    Raises:
        InvalidEnv: If they name a module that the user has not.
    """
    is_code = is_named(env_id) and not _is_registered(env_id.partition(":")[2])
    if is_code:
        check_trusted(env_id, "environment")
    module = None if is_code else _split(env_id)[0]
    if module is not None and module not in sys.modules:
        raise InvalidEnv(
            f"{quoted(env_id)} needs the module {quoted(module)}, and only you can say whether to run it; "
            f"if you trust it, give --import {module}, or import it in Python"
        )
    wrappers = (arguments or {}).get("wrappers", ())
    for wrapper in wrappers if isinstance(wrappers, list | tuple) else ():
        check_trusted(wrapper, "wrapper")


def is_atari(env_id: str) -> bool:
    """Return whether an id is one of ale_py's `ALE/*-v5`, with or without a module before it."""
    return _ATARI.match(env_id) is not None


def short_name(env_id: str) -> str:
    """Return an id without its namespace, or the bare name of a class or function, for the name of a file."""
    return parse_named(env_id, "environment").name if is_named(env_id) else env_id.split("/")[-1]


def id_of(game: str) -> str:
    """Return the `ALE/*-v5` id of a ROM name: `ms_pacman` gives `ALE/MsPacman-v5`.

    Raises:
        InvalidEnv: If no id has that ROM.
    """
    for env_id, spec in gymnasium.registry.items():
        if is_atari(env_id) and spec.kwargs.get("game") == game:
            return env_id
    raise InvalidEnv(f"unknown game {quoted(game)}; give a ROM name such as 'ms_pacman'")


def screen_size(game: str) -> tuple[int, int]:
    """Return height and width of a game's screen in pixels: 210×160 for most games, taller for a few."""
    emulator = ale_py.ALEInterface()
    emulator.loadROM(ale_py.roms.get_rom_path(game))  # type: ignore[arg-type]  # the id was checked
    height, width = emulator.getScreenDims()
    return height, width


def _split(env_id: str) -> tuple[str | None, str]:
    """Return the module that an id of the form `MODULE:ID` names, otherwise None, and the rest.

    Raises:
        InvalidEnv: If the id is too long, or there is no name of a module before the colon.
    """
    module, colon, name = env_id.rpartition(":")
    if len(env_id) > LONGEST_ID or (colon and not _MODULE.fullmatch(module)):
        raise InvalidEnv(f"unknown environment {quoted(env_id)}; give an id such as 'ALE/Pong-v5' or 'module:Game-v0'")
    return (module if colon else None), name


def _hint(name: str) -> str:
    """Return the end of an error about an unknown id: the id that was probably meant."""
    # Of the two CartPoles, the one without jax comes last and replaces the other.
    known = sorted(gymnasium.registry, key=lambda name: "/" not in name)
    names = {_plain(name): name for name in known if not _is_old_atari(name)}
    near = difflib.get_close_matches(_plain(name), names, n=1)
    return f"did you mean {names[near[0]]!r}?" if near else "give an id that Gymnasium knows, such as 'ALE/Pong-v5'"


def _is_old_atari(env_id: str) -> bool:
    return not is_atari(env_id) and gymnasium.registry[env_id].entry_point == _ATARI_ENTRY


def _plain(env_id: str) -> str:
    """Return an id without the parts that are easily mistaken.

    Those are namespace, version, case, underscores and the suffixes of older Atari ids.
    """
    bare = env_id.rsplit("/", 1)[-1].lower().replace("_", "")
    return re.sub(r"(-ram)?(noframeskip|deterministic)?(-v\d+)?$", "", bare)
