"""The training loop in its parts: collector, updater and recorder."""
