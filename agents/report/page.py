"""The page of a report: sections with a template and perhaps a script each, in one file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from pixelq.agents.errors import MissingExtra, how_to_install

SCRIPTS = ("curves", "across", "episode", "inside")
"""Names of the sections that have a script, `templates/NAME.js`."""
LIBRARIES = {"jinja2": "Jinja", "plotly": "Plotly", "sklearn": "scikit-learn"}
"""Libraries of the extra `report` that a page needs, by their module."""
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


@dataclass(frozen=True)
class Section:
    """Section of a page."""

    name: str
    """Name of its template `templates/NAME.html`, and its anchor."""
    title: str
    """Heading."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Variable `values` of the template."""
    data: Any = None
    """JSON values without NaN or infinity that its script reads by `charts.data(NAME)`; None for no script."""


def check_extra() -> None:
    """Check that the libraries of the extra `report` are there, without importing them.

    Raises:
        MissingExtra: If one is missing.
    """
    missing = [name for module, name in LIBRARIES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingExtra(f"a report needs {' and '.join(missing)}: {how_to_install('report')}")


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Return a page as HTML.

    Args:
        title: Title and heading of the page.
        subtitle: Line below the heading.
        sections: Sections in their order.

    Raises:
        MissingExtra: If a library of the extra `report` is missing.
        ValueError: If the data of a section hold NaN or infinity.
    """
    check_extra()
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("pixelq.agents.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["in_script"] = lambda data: Markup(json_in_script(data))
    names = {section.name for section in sections if section.data is not None}
    scripts = [get_plotlyjs(), template("charts.js"), *(template(f"{name}.js") for name in SCRIPTS if name in names)]
    return environment.get_template("page.html").render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        style=Markup(template("style.css")),
        scripts=[Markup(script) for script in scripts],
        policy=content_security_policy(scripts),
        version=version("pixelq"),
    )


def template(name: str) -> str:
    """Return the text of a file in `templates`."""
    return (files("pixelq.agents.report") / "templates" / name).read_text(encoding="utf-8")


def json_in_script(data: Any) -> str:
    """Return JSON that is safe inside a script element, whatever its strings hold.

    Raises:
        ValueError: If the data hold NaN or infinity.
    """
    return _ENCODER.encode(data).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def content_security_policy(scripts: Sequence[str]) -> str:
    """Return a policy by which a page runs these scripts, shows what it contains, and reaches nothing else."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    sources = f"script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; media-src data: blob:"
    return f"default-src 'none'; {sources}; base-uri 'none'; form-action 'none'"
