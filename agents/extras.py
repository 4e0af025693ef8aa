"""Libraries that only some features need, and that come with an extra of the package."""


class MissingExtra(ImportError):
    """A library that a feature needs is not there, or cannot be imported; the message says how to install it."""
