"""What is in the box: trained policies that come with the package, each an agent saved for acting and its figures."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelq.agents.errors import InvalidCheckpoint
from pixelq.agents.storage.checkpoint import AGENT, find_checkpoint, one_line, read_files, unpack_json
from pixelq.agents.storage.files import standing

FOLDER = Path(__file__).parents[1] / "policies"
"""A folder in it is a policy, and its name the policy's."""
ALIASES = {"demo": "pong"}
"""Further names, for which nobody needs to know what there is."""
CONFIG, EVALUATION, CARD = "config.json", "evaluation.json", "README.md"
"""Beside a policy's weights: how it was trained, how well it plays, and both in words."""


@dataclass(frozen=True)
class Policy:
    """A policy of the box, and how well it played when it was put there.

    Attributes:
        name: by which ``DQN.load`` and ``pixelq evaluate`` find it.
        aliases: further names.
        env: id of its environment.
        steps: agent steps that it had learned for.
        frames: of the emulator, in these steps.
        mean: return of an episode.
        ci95: 95% interval of the mean.
        episodes: full ones, over which the mean is taken.
        protocol: by whose rules they were played.
        size: bytes of its files.
    """

    name: str
    aliases: tuple[str, ...]
    env: str
    steps: int
    frames: int
    mean: float
    ci95: tuple[float, float]
    episodes: int
    protocol: str
    size: int


def policies() -> list[Policy]:
    """The policies of the box, by name.

    Raises:
        InvalidCheckpoint: the files of one are not as they were written.
    """
    return [_described(name, folder) for name, folder in sorted(_folders().items())]


def policy(name: str) -> Path:
    """The folder of a policy of the box.

    Raises:
        InvalidCheckpoint: there is none of that name.
    """
    folders = _folders()
    if ALIASES.get(name, name) not in folders:
        raise InvalidCheckpoint(f"{name:.80} is no policy that comes with pixelq; {_known(name)}")
    return folders[ALIASES.get(name, name)]


def names() -> list[str]:
    """All names of policies of the box, aliases first."""
    folders = sorted(_folders())
    return [alias for alias, name in ALIASES.items() if name in folders] + folders


def is_boxed(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the name of a policy of the box, and of nothing in the working folder, which goes first."""
    return os.fspath(path) in names() and not os.path.exists(standing(Path(path)))


def find_policy(path: str | os.PathLike[str]) -> Path:
    """The checkpoint that a path means, as ``find_checkpoint`` finds it, or else that of the box with this name.

    Raises:
        InvalidCheckpoint: there is none.
    """
    if is_boxed(path):
        return policy(os.fspath(path))
    try:
        return find_checkpoint(path)
    except InvalidCheckpoint as error:
        name = os.fspath(path)
        if name in names():
            raise InvalidCheckpoint(f"{error}; from another folder {name} is what comes with pixelq") from error
        if os.path.exists(path):
            raise
        raise InvalidCheckpoint(f"{error}; {_known(name)}") from error


def _folders() -> dict[str, Path]:
    """The box's folders by name."""
    return {path.parent.name: path.parent for path in FOLDER.glob(f"[!.]*/{AGENT}")}


def _known(name: str) -> str:
    """What is in the box, as the end of a sentence about a name that is not."""
    known = names()
    close = difflib.get_close_matches(name[:40].lower(), known, n=1)
    if close:
        return f"perhaps you meant {close[0]}, which comes with pixelq"
    return f"pixelq comes with {' and '.join(known) or 'no policy'}"


def _described(name: str, folder: Path) -> Policy:
    """A policy by its files."""
    values: dict[str, Any] = unpack_json(folder / EVALUATION, dict(read_files(folder, (EVALUATION,)))[EVALUATION])
    try:
        low, high = values["ci95"]
        return Policy(
            name=name,
            aliases=tuple(alias for alias, of in ALIASES.items() if of == name),
            env=str(values["env"]),
            steps=int(values["step"]),
            frames=int(values["frames"]),
            mean=float(values["mean"]),
            ci95=(float(low), float(high)),
            episodes=int(values["episodes"]),
            protocol=str(values["protocol"]),
            size=sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
        )
    except (LookupError, TypeError, ValueError) as error:
        raise InvalidCheckpoint(f"{folder / EVALUATION} is damaged ({one_line(error)}); install pixelq anew") from error
