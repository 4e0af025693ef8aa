"""Trackers: callbacks that keep a run in Weights & Biases, MLflow or Trackio."""
