"""Environment ids: which can be played, and clear errors for those that cannot."""

import difflib
import re
import sys

import ale_py
import gymnasium

from pixelq.envs.errors import InvalidEnv, quoted
from pixelq.envs.named import imported

gymnasium.register_envs(ale_py)

NOT_SINGLE_PLAYER = frozenset({"combat", "joust", "mazecraze", "warlords"})
"""Games for which ale_py has a ROM but no single-player mode; its vector environment kills the process on them."""
LONGEST_ID = 200
"""Most characters of an id."""

_ATARI_ENTRY = "ale_py.env:AtariEnv"
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def check_id(env_id: str) -> str:
    """Check that an id is known to Gymnasium, and is not one of the older Atari ids that `ALE/*-v5` replaced.

    Args:
        env_id: The id. Of one of the form `MODULE:ID`, the module is imported; see `check_imported` for ids from files.

    Returns:
        The id, without a module that this package imports anyway.

    Raises:
        InvalidEnv: If it is not; the message names the id that was probably meant.
    """
    if not isinstance(env_id, str):
        raise InvalidEnv(f"the environment must be an id, or a class or function that makes it, got {quoted(env_id)}")
    module, name = _split(env_id)
    if module is not None:
        imported(module)
        if module.partition(".")[0] == "ale_py":
            return check_id(name)
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


def check_imported(env_id: str) -> None:
    """Check that the module that an id names, if it names one, has been imported.

    This is for ids from files: whoever wrote a file must not choose what is imported.

    Raises:
        InvalidEnv: If it has not.
    """
    module, _ = _split(env_id)
    if module is not None and module not in sys.modules:
        raise InvalidEnv(
            f"{quoted(env_id)} needs the module {quoted(module)}, and only you can say whether to run it; "
            f"if you trust it, give --import {module}, or import it in Python"
        )


def is_atari(env_id: str) -> bool:
    """Return whether an id is one of ale_py's `ALE/*-v5`, with or without a module before it."""
    return env_id.rpartition(":")[2].startswith("ALE/")


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
