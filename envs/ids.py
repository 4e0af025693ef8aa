"""Which environment ids can be played, and sentences for those that cannot."""

import difflib
import re

import ale_py
import gymnasium

from pixelq.envs.errors import InvalidEnv

gymnasium.register_envs(ale_py)

NOT_SINGLE_PLAYER = frozenset({"combat", "joust", "mazecraze", "warlords"})
"""Games that ale_py has a ROM but no single-player mode for; its vector environment ends the process on them."""


def check_id(env_id: str) -> None:
    """Accepts an id that Gymnasium knows, except the Atari ids of before `ALE/*-v5`.

    Raises:
        InvalidEnv: with the id that was probably meant.
    """
    if is_atari(env_id) and _plain(env_id) in NOT_SINGLE_PLAYER:
        raise InvalidEnv(f"{env_id!r} has no single-player mode; choose another game")
    spec = gymnasium.registry.get(env_id)
    if spec is None and ":" in env_id:  # Gymnasium's `module:id`, which imports the module
        return
    if spec is None:
        known = sorted(gymnasium.registry, key=lambda name: "/" not in name)  # of two CartPoles, the one without jax
        names = {_plain(name): name for name in known if not _is_old_atari(name)}
        near = difflib.get_close_matches(_plain(env_id), names, n=1)
        hint = f"did you mean {names[near[0]]!r}?" if near else "give an id that Gymnasium knows, such as 'ALE/Pong-v5'"
        raise InvalidEnv(f"unknown environment {env_id!r}; {hint}")
    if _is_old_atari(env_id):
        raise InvalidEnv(f"{env_id!r} brings its own frame skip and stickiness; use {id_of(spec.kwargs['game'])!r}")


def is_atari(env_id: str) -> bool:
    """Whether the id is one of ale_py's `ALE/*-v5`."""
    return env_id.startswith("ALE/")


def id_of(game: str) -> str:
    """The `ALE/*-v5` id of a ROM name: `ms_pacman` gives `ALE/MsPacman-v5`.

    Raises:
        InvalidEnv: when no id has that ROM.
    """
    for env_id, spec in gymnasium.registry.items():
        if is_atari(env_id) and spec.kwargs["game"] == game:
            return env_id
    raise InvalidEnv(f"unknown game {game!r}; give a ROM name such as 'ms_pacman'")


def screen_size(game: str) -> tuple[int, int]:
    """Height and width of the game's screen in pixels: 210×160 for most, taller for a few."""
    emulator = ale_py.ALEInterface()
    emulator.loadROM(ale_py.roms.get_rom_path(game))  # type: ignore[arg-type]  # the id was checked
    height, width = emulator.getScreenDims()
    return height, width


def _is_old_atari(env_id: str) -> bool:
    return not is_atari(env_id) and gymnasium.registry[env_id].entry_point == "ale_py.env:AtariEnv"


def _plain(env_id: str) -> str:
    """The id without what people get wrong: namespace, version, case, underscores, old Atari suffixes."""
    bare = env_id.rsplit("/", 1)[-1].lower().replace("_", "")
    return re.sub(r"(-ram)?(noframeskip|deterministic)?(-v\d+)?$", "", bare)
