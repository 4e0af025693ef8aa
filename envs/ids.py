"""Environment ids: which can be played, and clear errors for those that cannot."""

import difflib
import re

import ale_py
import gymnasium

from pixelq.envs.errors import InvalidEnv

gymnasium.register_envs(ale_py)

NOT_SINGLE_PLAYER = frozenset({"combat", "joust", "mazecraze", "warlords"})
"""Games for which ale_py has a ROM but no single-player mode; its vector environment kills the process on them."""


def check_id(env_id: str) -> None:
    """Check that an id is known to Gymnasium, and is not one of the older Atari ids that `ALE/*-v5` replaced.

    Raises:
        InvalidEnv: If it is not; the message names the id that was probably meant.
    """
    if is_atari(env_id) and _plain(env_id) in NOT_SINGLE_PLAYER:
        raise InvalidEnv(f"{env_id!r} has no single-player mode; choose another game")
    spec = gymnasium.registry.get(env_id)
    if spec is None and ":" in env_id:  # Gymnasium's `module:id`; it imports the module
        return
    if spec is None:
        # Of the two CartPoles, the one without jax comes last and replaces the other.
        known = sorted(gymnasium.registry, key=lambda name: "/" not in name)
        names = {_plain(name): name for name in known if not _is_old_atari(name)}
        near = difflib.get_close_matches(_plain(env_id), names, n=1)
        hint = f"did you mean {names[near[0]]!r}?" if near else "give an id that Gymnasium knows, such as 'ALE/Pong-v5'"
        raise InvalidEnv(f"unknown environment {env_id!r}; {hint}")
    if _is_old_atari(env_id):
        raise InvalidEnv(f"{env_id!r} brings its own frame skip and stickiness; use {id_of(spec.kwargs['game'])!r}")


def is_atari(env_id: str) -> bool:
    """Return whether an id is one of ale_py's `ALE/*-v5`."""
    return env_id.startswith("ALE/")


def id_of(game: str) -> str:
    """Return the `ALE/*-v5` id of a ROM name: `ms_pacman` gives `ALE/MsPacman-v5`.

    Raises:
        InvalidEnv: If no id has that ROM.
    """
    for env_id, spec in gymnasium.registry.items():
        if is_atari(env_id) and spec.kwargs["game"] == game:
            return env_id
    raise InvalidEnv(f"unknown game {game!r}; give a ROM name such as 'ms_pacman'")


def screen_size(game: str) -> tuple[int, int]:
    """Return height and width of a game's screen in pixels: 210×160 for most games, taller for a few."""
    emulator = ale_py.ALEInterface()
    emulator.loadROM(ale_py.roms.get_rom_path(game))  # type: ignore[arg-type]  # the id was checked
    height, width = emulator.getScreenDims()
    return height, width


def _is_old_atari(env_id: str) -> bool:
    return not is_atari(env_id) and gymnasium.registry[env_id].entry_point == "ale_py.env:AtariEnv"


def _plain(env_id: str) -> str:
    """Return an id without the parts that are easily mistaken.

    Those are namespace, version, case, underscores and the suffixes of older Atari ids.
    """
    bare = env_id.rsplit("/", 1)[-1].lower().replace("_", "")
    return re.sub(r"(-ram)?(noframeskip|deterministic)?(-v\d+)?$", "", bare)
