"""Errors for invalid requests and for environments that fail while they are played."""


class InvalidEnv(ValueError):
    """An environment, protocol, seed, count or state that is not valid; the message is one sentence for the user."""


class EnvironmentFailed(RuntimeError):
    """An error raised by an environment during play; the message is one sentence, and the error itself the cause."""


def reason(error: Exception) -> str:
    """Return the first line of an error that Gymnasium or an environment raised, or the name of its class."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
