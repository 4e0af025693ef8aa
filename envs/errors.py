"""Errors for invalid requests and for environments that fail while they are played."""

import reprlib

LONGEST_SENTENCE = 500
"""Most characters of an error's sentence."""
LONGEST_PART = 200
"""Most characters of what somebody else wrote in such a sentence."""
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80


class InvalidEnv(ValueError):
    """An environment, protocol, seed, count or state that is not valid; the message is one sentence for the user."""

    def __str__(self) -> str:
        return printable(super().__str__(), LONGEST_SENTENCE)


class EnvironmentFailed(RuntimeError):
    """An error raised by an environment during play; the message is one sentence, and the error itself the cause."""

    def __str__(self) -> str:
        return printable(super().__str__(), LONGEST_SENTENCE)


class NotFinite(EnvironmentFailed):
    """A reward or an observation that is not finite. The environment works, so making it again would not help."""


class InvalidMask(EnvironmentFailed):
    """An action mask that cannot be used, or is missing. Making the environment again would not help."""


def printable(text: str, most: int = LONGEST_PART) -> str:
    """Return text as one line of at most `most` printable characters, for the terminal.

    Text from files, environments and errors may hold anything. Characters that cannot be printed, such as those that
    control a terminal, are written as in a string literal; text that is too long loses its middle.
    """
    if len(text) <= most and text.isprintable():
        return text
    text = " ".join(_shortened(text, 2 * most).split())
    return _shortened("".join(each if each.isprintable() else repr(each)[1:-1] for each in text), most)


def quoted(value: object) -> str:
    """Return the `repr` of a value that somebody else wrote, shortened to at most `LONGEST_PART` characters."""
    return printable(_REPR.repr(value))


def reason(error: BaseException) -> str:
    """Return the first line of an error that Gymnasium or an environment raised, or the name of its class.

    What is no ordinary error, such as `SystemExit`, is named too.
    """
    kind, lines = type(error).__name__, str(error).strip().splitlines()
    if not lines:
        return kind
    return printable(lines[0] if isinstance(error, Exception) else f"{kind}: {lines[0]}")


def _shortened(text: str, most: int) -> str:
    end = most // 4
    return text if len(text) <= most else f"{text[: most - end - 3]}...{text[-end:]}"
