"""`pixelq evaluate --list`: the pretrained policies, without PyTorch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pixelq.agents.results.formatting import describe_rules, pluralize
from pixelq.agents.storage.pretrained import PretrainedPolicy, pretrained_policies
from pixelq.scripts.command_line import STDOUT, check_writable, write_json
from pixelq.scripts.flags.evaluate import EvaluateArgs


def main(args: EvaluateArgs) -> None:
    """Print the pretrained policies."""
    found = pretrained_policies()
    if args.json is not None:
        if args.json != STDOUT:
            check_writable(args.json, "--json")
        write_json([dataclasses.asdict(each) for each in found], args.json)
    if args.json != STDOUT:
        print(describe_pretrained(found))


def describe_pretrained(found: Sequence[PretrainedPolicy]) -> str:
    """Return the pretrained policies as a table, with a line on how to use one."""
    rows = [("name", "environment", "steps", "frames", "mean return (95% interval)", "played", "size")]
    for each in found:
        low, high = each.ci95
        rows.append(
            (
                ", ".join((each.name, *each.aliases)),
                each.env,
                f"{each.steps:,}",
                f"{each.frames:,}",
                f"{each.mean:.1f} ({low:.1f} to {high:.1f})",
                f"{pluralize(each.episodes, 'episode')}, {describe_rules(each.protocol)}",
                f"{each.size / 1e6:.1f} MB",
            )
        )
    if not found:
        return "no policy comes with this pixelq"
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    name = next((alias for each in found for alias in each.aliases), found[0].name)
    return "\n".join([*table, "", f'pixelq evaluate {name} --video out   or, in Python, pixelq.agents.load("{name}")'])
