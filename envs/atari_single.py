"""Atari games one by one, for what ale_py's native vector environment lacks: game modes, difficulties and RAM."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ale_py
import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from pixelq.envs.atari import (
    ATARI_SIZE,
    ATARI_STACK,
    FRAMES_PER_STEP,
    atari_arguments,
    check_flag,
    check_registered,
)
from pixelq.envs.checks import checked_count
from pixelq.envs.errors import InvalidEnv, quoted
from pixelq.envs.flicker import DEEPEST_STACK, uniform
from pixelq.envs.gymnasium_vec import GymnasiumVec
from pixelq.envs.ids import check_id
from pixelq.envs.observed import Preparation
from pixelq.envs.protocols import Protocol
from pixelq.envs.recipe import Recipe
from pixelq.envs.resizing import LARGEST_FRAME, Resizing

RAM_BYTES = 128


@dataclass(frozen=True)
class AtariOptions:
    """What `env_kwargs` may say of an Atari game: `AtariVec` plays the first mode and difficulty, in pictures."""

    mode: int | None = None
    """Mode of the game, one of `getAvailableModes`; None for the first."""
    difficulty: int | None = None
    """Difficulty, one of `getAvailableDifficulties`; None for the first."""
    obs_type: str = "grayscale"
    """`grayscale` for pictures, or `ram` for the 128 bytes of the machine's memory."""

    @classmethod
    def of(cls, env_id: str, env_kwargs: Mapping[str, Any]) -> "AtariOptions":
        """Return the options that keyword arguments stand for, checked against the game.

        Raises:
            InvalidEnv: If an argument is none of these, or the game has no such mode or difficulty.
        """
        unknown = sorted(env_kwargs.keys() - {"mode", "difficulty", "obs_type"})
        if unknown:
            raise InvalidEnv(
                f"env_kwargs of an Atari game must be among mode, difficulty and obs_type, got {quoted(unknown[0])}; "
                "the protocol and the other arguments of make_vec say the rest"
            )
        options = cls(**env_kwargs)
        if options.obs_type not in ("grayscale", "ram"):
            raise InvalidEnv(f"obs_type must be 'grayscale' or 'ram', got {quoted(options.obs_type)}")
        if options.mode is not None or options.difficulty is not None:
            modes, difficulties = _available(_rom_of(env_id))
            _check_among(env_id, "mode", options.mode, modes)
            _check_among(env_id, "difficulty", options.difficulty, difficulties)
        return options


class AtariGame(gymnasium.Env[NDArray[np.uint8], np.int64]):
    """One Atari game under a protocol, as `AtariVec` plays it, in single pictures or as RAM.

    A step is four frames, of whose last two an observation is the maximum, grey and resized to uint8 [size, size]; or
    the RAM after the last, uint8 [128]. `info` holds `lives`, `frame_number` and `episode_frame_number`, and
    `life_lost` where the protocol ends the return at a lost life. Equal actions bring the same as in `AtariVec`; random
    numbers of stickiness and no-ops are others.

    Args:
        env_id: A Gymnasium id `ALE/*-v5`.
        protocol: Stickiness, no-ops, life losses, time limit and flicker.
        options: Mode, difficulty and kind of observations.
        full_action_space: Whether to use all 18 joystick actions instead of the game's own.
        frame_size: Height and width of an observation.
        render_mode: `rgb_array` to draw the screen in colour.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 60 // FRAMES_PER_STEP}  # noqa: RUF012

    def __init__(
        self,
        env_id: str,
        protocol: Protocol,
        options: AtariOptions = AtariOptions(),
        *,
        full_action_space: bool = False,
        frame_size: int = ATARI_SIZE,
        render_mode: str | None = None,
    ) -> None:
        self.protocol, self.options, self.render_mode = protocol, options, render_mode
        self._rom = _rom_of(env_id)
        self._ale = _loaded(self._rom, protocol.repeat_action_probability)
        self._actions = self._ale.getLegalActionSet() if full_action_space else self._ale.getMinimalActionSet()
        self.action_meanings = tuple(action.name for action in self._actions)
        self.action_space = Discrete(len(self._actions))
        height, width = self._ale.getScreenDims()
        self._resized = Resizing(height, width, frame_size)
        is_ram = options.obs_type == "ram"
        self.observation_space = Box(0, 255, (RAM_BYTES,) if is_ram else (frame_size, frame_size), np.uint8)
        self._screens = np.zeros((2, height, width), np.uint8)  # of a step's last frame and of the one before
        self._colours = np.zeros((2, height, width, 3), np.uint8)  # the same, if they are drawn
        self._frames = self._lives = 0
        self._anchor = self._since = 0  # seed of the last seeded reset, and steps and resets since, for flicker

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start a new episode; with a seed, the game is loaded anew, which takes 0.1 s."""
        super().reset(seed=seed)
        self._since += 1
        if seed is not None:
            self._anchor, self._since = seed, 0
            _load(self._ale, self._rom, seed)
            if self.options.mode is not None:
                self._ale.setMode(self.options.mode)
            if self.options.difficulty is not None:
                self._ale.setDifficulty(self.options.difficulty)
        self._ale.reset_game()
        noop_max = self.protocol.noop_max
        for _ in range(int(self.np_random.integers(1, noop_max + 1)) if noop_max else 0):
            self._ale.act(ale_py.Action.NOOP)
            if self._ale.game_over():
                self._ale.reset_game()
        if self.protocol.fire_at_start and ale_py.Action.FIRE in self._actions:
            self._ale.act(ale_py.Action.FIRE)
        self._screens[1] = self._colours[1] = 0
        self._look(0)
        self._frames, self._lives = 0, self._ale.lives()
        return self._observation(), self._info(False)

    def step(self, action: np.int64) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Play an action for four frames, or until the game is over."""
        reward, joystick = 0.0, self._actions[int(action)]
        self._since += 1
        for frame in range(FRAMES_PER_STEP):
            reward += self._ale.act(joystick)
            if self._ale.game_over():
                break
            if frame >= FRAMES_PER_STEP - 2:
                self._look(FRAMES_PER_STEP - 1 - frame)
        self._frames += FRAMES_PER_STEP
        terminated, lives = bool(self._ale.game_over()), self._ale.lives()
        truncated = self._frames >= self.protocol.max_frames and not terminated
        life_lost, self._lives = 0 < lives < self._lives and not terminated, lives
        return self._observation(), reward, terminated, truncated, self._info(life_lost)

    def render(self) -> NDArray[np.uint8]:
        """Return the picture in colour of which the observation is the grey one, uint8 [height, width, 3]."""
        picture: NDArray[np.uint8] = np.maximum(self._colours[0], self._colours[1], out=self._colours[0])
        return picture

    def _look(self, place: int) -> None:
        """Keep the present screen as that of a step's last frame, 0, or of the one before, 1."""
        self._ale.getScreenGrayscale(self._screens[place])
        if self.render_mode is not None:
            self._ale.getScreenRGB(self._colours[place])

    def _observation(self) -> NDArray[np.uint8]:
        if self.options.obs_type == "ram":
            return np.array(self._ale.getRAM(), np.uint8)
        # In place, as the native environment does: a game that ends before the last frame shows what was pooled.
        shown = self._resized(np.maximum(self._screens[0], self._screens[1], out=self._screens[0]))
        flicker = self.protocol.flicker
        if flicker and uniform(np.array([self._anchor]), np.array([self._since]))[0] < flicker:
            shown[:] = 0
        return shown

    def _info(self, life_lost: bool) -> dict[str, Any]:
        ale = self._ale
        lost = {"life_lost": life_lost} if self.protocol.life_loss_ends_return else {}
        counts = {"frame_number": ale.getFrameNumber(), "episode_frame_number": ale.getEpisodeFrameNumber()}
        return {"lives": ale.lives(), **counts, **lost}


class AtariGames(GymnasiumVec):
    """N Atari games stepped one after another, with the protocol's rules and the metadata of `AtariVec`.

    Args:
        recipe: Id `ALE/*-v5`, `AtariOptions` as its arguments, and what is wrapped around each game; pictures are
            stacked around the wrappers.
        num_envs: Number of copies N.
        seed: Non-negative seed.
        protocol: See `AtariGame`.
        full_action_space: See `AtariGame`.
        frame_stack: Number of pictures in an observation; without effect on RAM.
        frame_size: See `AtariGame`; without effect on RAM.
        render_mode: `rgb_array` for the method `frame`, otherwise None.

    Raises:
        InvalidEnv: If an argument is out of range, the game has no such mode or difficulty, or RAM is to flicker.
    """

    frames_per_step: int = FRAMES_PER_STEP

    def __init__(
        self,
        recipe: Recipe,
        num_envs: int,
        seed: int,
        protocol: Protocol,
        full_action_space: bool = False,
        frame_stack: int = ATARI_STACK,
        frame_size: int = ATARI_SIZE,
        *,
        render_mode: str | None = None,
    ) -> None:
        env_id = check_id(str(recipe.env))
        check_registered(env_id, gymnasium.spec(env_id).kwargs)
        check_flag("full_action_space", full_action_space)
        frame_size = checked_count("frame_size", frame_size, least=1, most=LARGEST_FRAME)
        frame_stack = checked_count("frame_stack", frame_stack, least=1, most=DEEPEST_STACK)
        options = AtariOptions.of(env_id, recipe.env_kwargs)
        shows_ram = is_ram(recipe.env_kwargs)
        if shows_ram and protocol.flicker:
            raise InvalidEnv("only pictures flicker; leave flicker out, or obs_type 'ram'")
        if shows_ram:
            frame_stack, frame_size = 1, ATARI_SIZE  # which have no effect

        def game(render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
            kinds: dict[str, Any] = {"frame_size": frame_size, "render_mode": render_mode}
            return recipe.wrap(AtariGame(env_id, protocol, options, full_action_space=full_action_space, **kinds))

        game.__name__ = env_id  # in messages
        preparation = Preparation(frame_stack=frame_stack)
        super().__init__(game, num_envs, seed, render_mode=render_mode, preparation=preparation)
        self.env_id, self.protocol = recipe.env_id, protocol
        stack = ATARI_STACK if shows_ram else frame_stack
        pictures = atari_arguments(full_action_space, stack, frame_size)
        self.arguments = {} if recipe.env_id is None else pictures | recipe.arguments
        self.spec = gymnasium.spec(env_id)
        single = self._singles[0].unwrapped
        assert isinstance(single, AtariGame)
        if self.single_action_space == single.action_space:
            self.action_meanings = single.action_meanings


def is_ram(env_kwargs: Mapping[str, Any]) -> bool:
    """Return whether an Atari game with these arguments shows its memory in place of pictures."""
    return bool(env_kwargs.get("obs_type") == "ram")


def _rom_of(env_id: str) -> str:
    """Return the path of the ROM of an id."""
    return str(ale_py.roms.get_rom_path(gymnasium.spec(env_id).kwargs["game"]))


def _loaded(rom: str, stickiness: float = 0.0) -> ale_py.ALEInterface:
    """Return an emulator with a game."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    emulator = ale_py.ALEInterface()
    emulator.setFloat("repeat_action_probability", stickiness)
    emulator.setInt("frame_skip", 1)
    _load(emulator, rom, 0)
    return emulator


def _load(emulator: ale_py.ALEInterface, rom: str, seed: int) -> None:
    """Load a game anew, with a seed of its random numbers."""
    emulator.setInt("random_seed", seed)
    emulator.loadROM(rom)


@functools.cache
def _available(rom: str) -> tuple[list[int], list[int]]:
    """Return the modes and difficulties of a game."""
    game = _loaded(rom)
    return sorted(map(int, game.getAvailableModes())), sorted(map(int, game.getAvailableDifficulties()))


def _check_among(env_id: str, name: str, value: Any, known: list[int]) -> None:
    """Check that a game has a mode or difficulty.

    Raises:
        InvalidEnv: If it has not.
    """
    if value is not None and (type(value) is not int or value not in known):
        raise InvalidEnv(f"{name} of {env_id!r} must be one of {', '.join(map(str, known))}, got {quoted(value)}")
