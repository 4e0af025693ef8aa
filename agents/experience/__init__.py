"""Experience: the replay, and the batches that an update learns from."""
