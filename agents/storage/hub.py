"""Policies on the Hugging Face Hub: `hf://ORG/NAME`, downloaded as folders that are read as any checkpoint is."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pixelq.agents.errors import InvalidCheckpoint, MissingExtra, UserError, how_to_install, one_line
from pixelq.agents.storage.checkpoint_files import AGENT, LEARNER, NETWORK
from pixelq.agents.storage.files import CHECKSUMS

FILES = (AGENT, NETWORK, LEARNER, CHECKSUMS, "config.json")
"""Files of a repository that are downloaded, where they are there; no other is ever read."""
MOST_DOWNLOAD = 2**33
"""Greatest size of these files together, in bytes."""
_REFERENCE = re.compile(r"hf:[/\\]{1,2}([\w.-]+[/\\][\w.-]+?)(?:@([\w.-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_on_hub(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is meant as a policy on the Hub; `Path` leaves one of the slashes of `hf://` out."""
    return os.fspath(path).startswith(("hf:/", "hf:\\"))


def written(path: str | os.PathLike[str]) -> str:
    """Return a path as users write it: `hf://ORG/NAME` with both slashes, and any other as it is."""
    return "hf://" + os.fspath(path)[3:].lstrip("/\\").replace("\\", "/") if is_on_hub(path) else os.fspath(path)


def repository(path: str | os.PathLike[str]) -> tuple[str, str | None]:
    """Return the repository and the revision, if there is one, of `hf://ORG/NAME` or `hf://ORG/NAME@REVISION`.

    Raises:
        InvalidCheckpoint: If the path is neither.
    """
    match = _REFERENCE.fullmatch(os.fspath(path))
    if match is None:
        raise InvalidCheckpoint(f"{written(path):.200} must be hf://ORG/NAME or hf://ORG/NAME@REVISION")
    return match[1].replace("\\", "/"), match[2]


def pinned(path: str | os.PathLike[str]) -> Path:
    """Return the path of a policy on the Hub with its present commit as revision; errors as of `hub_folder`."""
    return Path(f"hf://{repository(path)[0]}@{hub_folder(path).name}")


def hub_folder(path: str | os.PathLike[str]) -> Path:
    """Return the folder of a policy on the Hub, after its files were downloaded, or found in the Hub's own cache.

    Without a connection, it is the newest that the cache holds.

    Raises:
        InvalidCheckpoint: If there is no such repository, it holds no policy, it is too large, or the Hub cannot be
            reached.
        MissingExtra: If `huggingface_hub` is not installed.
    """
    repo, revision = repository(path)
    hub = import_hub(written(path))
    if revision is not None and _COMMIT.fullmatch(revision):
        cached = _cached(hub, repo, revision)
        if cached is not None:
            return cached
    try:
        with answers_of_hub(repo, revision):
            info = hub.HfApi().model_info(repo, revision=revision, files_metadata=True)
            sizes = {each.rfilename: each.size or 0 for each in info.siblings or () if each.rfilename in FILES}
            _check(repo, sizes)
            return Path(hub.snapshot_download(repo, revision=revision, allow_patterns=list(FILES)))
    except HubUnreachable:
        cached = _cached(hub, repo, revision)
        if cached is None:
            raise
        return cached


class HubUnreachable(InvalidCheckpoint):
    """There is no connection to the Hub."""


def import_hub(what: str) -> Any:
    """Return the module `huggingface_hub`.

    Args:
        what: What needs it, for the error.

    Raises:
        MissingExtra: If it is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise MissingExtra(f"{what} needs huggingface_hub: {how_to_install('hub')}") from error
    return huggingface_hub


@contextmanager
def answers_of_hub(repo: str, revision: str | None = None) -> Iterator[None]:
    """Turn what the Hub's library raises into one sentence while the context lasts.

    Raises:
        HubUnreachable: If there is no connection.
        InvalidCheckpoint: If the Hub refuses.
    """
    from huggingface_hub import errors

    try:
        yield
    except UserError:
        raise
    except errors.RevisionNotFoundError as error:
        raise InvalidCheckpoint(f"{repo} on the Hub has no revision {revision}") from error
    except errors.RepositoryNotFoundError as error:
        raise InvalidCheckpoint(
            f"there is no repository {repo} on the Hub that may be used from here; check the name, or set HF_TOKEN if "
            "it is private"
        ) from error
    except errors.HFValidationError as error:
        raise InvalidCheckpoint(f"{repo:.200} is no name of a repository; give ORG/NAME") from error
    except errors.HfHubHTTPError as error:
        status = int(getattr(error.response, "status_code", 0))
        why = {401: "the token is not valid; set HF_TOKEN", 403: "the token may not do this; use one that may write"}
        hint = why.get(status, one_line(error))
        raise InvalidCheckpoint(f"the Hub has answered {status} about {repo}: {hint:.200}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise InvalidCheckpoint(f"{repo} cannot be stored in the Hub's cache ({error.strerror})") from error
        raise _unreachable(repo, error) from error
    except Exception as error:  # of connections, its versions raise errors of other libraries
        raise _unreachable(repo, error) from error


def _unreachable(repo: str, error: Exception) -> HubUnreachable:
    return HubUnreachable(f"the Hub cannot be reached for {repo} ({type(error).__name__}: {one_line(error):.150})")


def _cached(hub: Any, repo: str, revision: str | None) -> Path | None:
    """Return the folder of a repository that the cache holds whole; None if there is none."""
    try:
        folder = hub.snapshot_download(repo, revision=revision, allow_patterns=list(FILES), local_files_only=True)
    except (OSError, ValueError, hub.errors.HfHubHTTPError):
        return None
    return Path(folder) if os.path.isfile(Path(folder) / AGENT) else None


def _check(repo: str, sizes: dict[str, int]) -> None:
    """Check that the files of a repository, of which sizes are given in bytes, are those of a policy."""
    missing = next((name for name in (AGENT, NETWORK, CHECKSUMS) if name not in sizes), None)
    if missing is not None:
        raise InvalidCheckpoint(f"{repo} on the Hub holds no policy of pixelq: {missing} is missing")
    if sum(sizes.values()) > MOST_DOWNLOAD:
        raise InvalidCheckpoint(f"{repo} on the Hub is too large: {sum(sizes.values()) / 1e9:,.0f} GB")
