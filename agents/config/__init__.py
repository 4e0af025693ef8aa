"""Configuration: hyperparameters and their presets, schedules, seeds and devices."""
