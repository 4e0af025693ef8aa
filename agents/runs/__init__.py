"""Runs on disk: the folder, its tables, checkpoints, progress and TensorBoard events. Nothing here trains."""
