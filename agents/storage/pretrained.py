"""Pretrained policies: agents saved for acting that come with the package, each with its evaluation."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelq.agents.errors import InvalidCheckpoint, one_line
from pixelq.agents.storage.checkpoint_files import AGENT, find_checkpoint, read_files, unpack_json
from pixelq.agents.storage.files import surviving
from pixelq.agents.storage.hub import hub_folder, is_on_hub
from pixelq.agents.storage.json_values import MOST_JSON

FOLDER = Path(__file__).parents[1] / "policies"
"""Folder of the pretrained policies; each has a folder of its name in it."""
ALIASES = {"demo": "pong"}
"""Further names of pretrained policies, for those who do not know which ones there are."""
CONFIG, EVALUATION, CARD = "config.json", "evaluation.json", "README.md"
"""Files beside a policy's weights: how it was trained, how well it plays, and a description of both."""


@dataclass(frozen=True)
class PretrainedPolicy:
    """A policy that comes with the package, and how well it played when it was added.

    Attributes:
        name: Name that `pixelq.agents.load` and `pixelq evaluate` take.
        aliases: Further names.
        env: ID of its environment.
        steps: Agent steps of its training.
        frames: Frames of the emulator in these steps.
        mean: Mean return of an episode.
        ci95: 95% interval of the mean.
        episodes: Number of full episodes behind the mean.
        protocol: Protocol under which they were played.
        size: Size of its files in bytes.
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


def pretrained_policies() -> list[PretrainedPolicy]:
    """Return all pretrained policies, sorted by name.

    Raises:
        InvalidCheckpoint: If the files of one are not as they were written.
    """
    return [_described(name, folder) for name, folder in sorted(_folders().items())]


def pretrained_folder(name: str) -> Path:
    """Return the folder of the pretrained policy with a name or alias.

    Raises:
        InvalidCheckpoint: If there is none.
    """
    folders = _folders()
    if ALIASES.get(name, name) not in folders:
        raise InvalidCheckpoint(f"{name:.80} is no policy that comes with pixelq; {_known(name)}")
    return folders[ALIASES.get(name, name)]


def names() -> list[str]:
    """Return all names of pretrained policies, aliases first."""
    folders = sorted(_folders())
    return [alias for alias, name in ALIASES.items() if name in folders] + folders


def is_pretrained(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is the name of a pretrained policy, and of no file or folder, which would take priority."""
    return os.fspath(path) in names() and not os.path.exists(surviving(Path(path)))


def find_policy(path: str | os.PathLike[str]) -> Path:
    """Return the folder of the checkpoint at a path, of the pretrained policy with that name, or of `hf://ORG/NAME`.

    A path is resolved as by `find_checkpoint`, and takes priority over a name. What lies on the Hub is downloaded.

    Raises:
        InvalidCheckpoint: If there is neither.
        MissingExtra: If the Hub's library is not installed.
    """
    if is_on_hub(path):
        return hub_folder(path)
    if is_pretrained(path):
        return pretrained_folder(os.fspath(path))
    try:
        return find_checkpoint(path)
    except InvalidCheckpoint as error:
        name = os.fspath(path)
        if name in names():
            message = f"{error}; from another folder, {name} is the policy that comes with pixelq"
            raise InvalidCheckpoint(message) from error
        if os.path.exists(path):
            raise
        raise InvalidCheckpoint(f"{error}; {_known(name)}") from error


def _folders() -> dict[str, Path]:
    """Return the folders of the pretrained policies by name."""
    return {path.parent.name: path.parent for path in FOLDER.glob(f"[!.]*/{AGENT}")}


def _known(name: str) -> str:
    """Return which policies there are, as the end of an error about a name that is not one of them."""
    known = names()
    close = difflib.get_close_matches(name[:40].lower(), known, n=1)
    if close:
        return f"perhaps you meant {close[0]}, which comes with pixelq"
    return f"pixelq comes with {' and '.join(known) or 'no policy'}"


def _described(name: str, folder: Path) -> PretrainedPolicy:
    """Return a pretrained policy from its files."""
    ((_, data),) = read_files(folder, (EVALUATION,), MOST_JSON)
    values: dict[str, Any] = unpack_json(folder / EVALUATION, data)
    try:
        low, high = values["ci95"]
        return PretrainedPolicy(
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
        raise InvalidCheckpoint(
            f"{folder / EVALUATION} is damaged ({one_line(error)}); install pixelq again"
        ) from error
