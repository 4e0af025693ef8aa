"""`pixelq --tyro-print-completion SHELL`: completion of verbs and flags, as tyro makes it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import get_type_hints

import tyro

from pixelq.scripts.command_line import registry
from pixelq.scripts.main import VERBS


def main(arguments: Sequence[str]) -> None:
    """Print or write the completion, in which each verb has its own flags."""
    readers = {verb: importlib.import_module(f"pixelq.scripts.flags.{verb}").read for verb in VERBS}
    kinds = {verb: get_type_hints(read)["return"] for verb, read in readers.items()}
    tyro.extras.subcommand_cli_from_dict(kinds, prog="pixelq", args=list(arguments), registry=registry(*kinds.values()))
