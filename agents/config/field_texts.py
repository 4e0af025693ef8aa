"""What the fields of a dataclass mean: the string literals below them."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import sys
import textwrap
from collections.abc import Mapping
from types import MappingProxyType


@functools.cache  # the source is read for a tenth of the time that a command line takes
def field_texts(kind: type) -> Mapping[str, str]:
    """Return the string literals below the fields of a dataclass of a module; none where the source is missing."""
    try:  # not `inspect.getsource(kind)`, which takes three times as long: it splits the class into tokens, too
        module = ast.parse(inspect.getsource(sys.modules[kind.__module__]))
    except (OSError, TypeError):
        return MappingProxyType({})
    texts = {}
    found = (each for each in module.body if isinstance(each, ast.ClassDef) and each.name == kind.__name__)
    definition = next(found, None)
    for field, below in itertools.pairwise(definition.body if definition else ()):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            texts[field.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return MappingProxyType(texts)


def show_fields(kind: type) -> None:
    """List the fields of a dataclass, whose metadata names their groups, in its docstring, and shorten its signature.

    So `help` says what each field means, in place of one line with all of them.
    """
    texts, lines, group = field_texts(kind), [], None
    groups = list(dict.fromkeys(field.metadata["group"] for field in dataclasses.fields(kind)))
    fields = sorted(dataclasses.fields(kind), key=lambda field: groups.index(field.metadata["group"]))
    for field in fields:
        if field.metadata["group"] != group:
            group = field.metadata["group"]
            lines += ["", f"{group[0].upper()}{group[1:]}:"]
        shown = f"{field.name}: {field.type} = {field.default!r}"
        lines += textwrap.wrap(shown, 110, initial_indent=" " * 4, subsequent_indent=" " * 12)
        lines += textwrap.wrap(texts.get(field.name, ""), 88, initial_indent=" " * 8, subsequent_indent=" " * 8)
    kind.__doc__ = inspect.cleandoc(kind.__doc__ or "") + "\n" + "\n".join(lines) + "\n"
    settings = inspect.Parameter("settings", inspect.Parameter.VAR_KEYWORD)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    kind.__signature__ = inspect.Signature([settings])  # type: ignore[attr-defined]
    kind.__init__.__signature__ = inspect.Signature([own, settings])  # type: ignore[misc]
