"""The error for what a user asked of this package and cannot have."""


class InvalidEnv(ValueError):
    """An environment, protocol, seed or count that cannot be made; the message is one sentence for the user."""
