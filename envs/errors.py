"""The errors for what a user asked of this package and cannot have, and for environments that break."""


class InvalidEnv(ValueError):
    """An environment, protocol, seed, count or state that cannot be had; the message is one sentence for the user."""


class EnvironmentFailed(RuntimeError):
    """An environment raised an error while it was played; the message is one sentence, the error its cause."""


def reason(error: Exception) -> str:
    """The first line of an error that Gymnasium or an environment raised."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
