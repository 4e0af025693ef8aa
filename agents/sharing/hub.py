"""Policies as repositories of the Hugging Face Hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pixelq.agents.agent import Agent
from pixelq.agents.errors import UserError
from pixelq.agents.sharing.card import card, results_json
from pixelq.agents.storage.checkpoint import agent_files
from pixelq.agents.storage.files import CHECKSUMS, digest
from pixelq.agents.storage.hub import answers_of_hub, import_hub

CARD, RESULTS, FILM, CONFIG = "README.md", "results.json", "replay.mp4", "config.json"
"""Files of a repository besides those of the policy."""


def check_access(repo: str) -> None:
    """Check that this machine may write to a repository, before anything is played for it.

    Args:
        repo: The repository, ORG/NAME.

    Raises:
        MissingExtra: If `huggingface_hub` is not installed.
        UserError: If there is no token, or it may not write there.
        HubUnreachable: If there is no connection.
    """
    hub = import_hub("pixelq push")
    if hub.get_token() is None:
        raise UserError(
            f"{repo} can only be written with a token of the Hugging Face Hub; run `hf auth login`, or set HF_TOKEN to "
            "one with the role write"
        )
    with answers_of_hub(repo):
        user = hub.HfApi().whoami()
    names = [user["name"], *(each["name"] for each in user.get("orgs", []))]
    if repo.split("/")[0].lower() not in [name.lower() for name in names]:
        raise UserError(f"{repo} must be of {' or '.join(names)}, for which the token is")


def repository_files(
    repo: str,
    agent: Agent,
    config: Mapping[str, Any],
    figures: Mapping[str, Any],
    *,
    film: bytes | None = None,
    command: str | None = None,
) -> dict[str, bytes]:
    """Return the files of a policy's repository by name: weights for acting, configuration, results, card and film.

    Args:
        repo: The repository, ORG/NAME.
        agent: The agent.
        config: JSON values that say how it was trained.
        figures: JSON values of its evaluation, as `Score.to_json` returns them.
        film: The film, an mp4; None for none.
        command: Command line of its training, for the card.
    """
    files = agent_files(agent.checkpoint(for_acting=True))
    files[CONFIG] = (json.dumps(config, indent=2) + "\n").encode()
    files[CHECKSUMS] = "".join(f"{digest(data)}  {name}\n" for name, data in files.items()).encode()
    files[RESULTS] = (json.dumps(results_json(figures), indent=2) + "\n").encode()
    files[CARD] = card(repo, agent, figures, has_film=film is not None, command=command).encode()
    return files if film is None else files | {FILM: film}


def push(repo: str, files: Mapping[str, bytes], *, private: bool = False) -> str:
    """Write files to a repository in one commit, and return its address; the repository is made if there is none.

    A film that is not among the files is removed, since it would be of another policy.

    Args:
        repo: The repository, ORG/NAME.
        files: Contents of the files by name.
        private: Whether a new repository is private.

    Raises:
        MissingExtra, UserError, HubUnreachable: See `check_access`.
    """
    hub = import_hub("pixelq push")
    with answers_of_hub(repo):
        api = hub.HfApi()
        # That an existing repository stays as public as it is, is the Hub's rule
        address = str(api.create_repo(repo, private=private or None, exist_ok=True))
        old = [] if FILM in files else [name for name in api.list_repo_files(repo) if name == FILM]
        operations = [hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in files.items()]
        operations += [hub.CommitOperationDelete(path_in_repo=name) for name in old]
        api.create_commit(repo, operations, commit_message="Add a policy of pixelq")
    return address
