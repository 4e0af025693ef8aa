"""`pixelq report`: runs as one page that opens offline in any browser."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pixelq.agents.config.device import resolve_device
from pixelq.agents.errors import RunFailed, UserError
from pixelq.agents.report import ReportOptions, write_report
from pixelq.agents.storage.files import read_regular
from pixelq.scripts.command_line import check_writable
from pixelq.scripts.flags.report import ReportArgs
from pixelq.scripts.main import run
from pixelq.scripts.modules import import_modules


def main(args: ReportArgs) -> None:
    """Write the report, and print its path."""
    resolve_device(args.device)
    import_modules(args.modules)
    _check_replaceable(args.out)
    check_writable(args.out, "--out")
    options = ReportOptions(args.film, args.episodes, args.seed, args.device, args.price_per_hour, args.name)
    try:
        write_report(args.runs, args.out, options, tell=lambda what: print(what, file=sys.stderr))
    except OSError as error:
        raise RunFailed(f"{args.out} cannot be written ({error.strerror})") from error
    print(f"report: {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)")


def _check_replaceable(out: Path) -> None:
    """Check that nothing but a page would be overwritten, such as a file of the run, or a device.

    Raises:
        UserError: If something else would be.
    """
    try:
        start = read_regular(out)[:100] if os.path.exists(out) else b""
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}); use another --out file") from error
    if start and not start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise UserError(f"{out} already exists and is not an HTML page; use another --out file")


if __name__ == "__main__":
    sys.exit(run("report"))
