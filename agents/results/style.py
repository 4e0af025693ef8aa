"""Style of the PNG pictures: Matplotlib's own, whatever a user's files and environment say."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def plain_style() -> Iterator[None]:
    """Draw with Matplotlib's own defaults while the context lasts, and without a backend.

    A `matplotlibrc` in the working folder, which Matplotlib reads when it is imported, decides nothing here.
    """
    import_matplotlib()
    from matplotlib import style

    with style.context("default"):
        yield


def import_matplotlib() -> None:
    """Import Matplotlib, also where `MPLBACKEND` or a `matplotlibrc` names what it refuses.

    A command that a notebook starts inherits the notebook's backend, which may not be installed beside us.
    """
    try:
        import matplotlib as matplotlib
    except ImportError:
        raise
    except Exception:
        found = importlib.util.find_spec("matplotlib")
        assert found is not None
        assert found.origin is not None
        os.environ.pop("MPLBACKEND", None)
        for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
            del sys.modules[name]  # which the import that failed has left half done
        with contextlib.chdir(Path(found.origin).parent / "mpl-data"):  # where its own matplotlibrc lies
            import matplotlib as matplotlib


def literal(text: str) -> str:
    """Return a text as Matplotlib draws it letter by letter: not as a formula, and not hidden in a legend."""
    return ("\u2009" if text.startswith("_") else "") + text.replace("$", r"\$")
