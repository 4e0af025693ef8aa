"""Learning: updates of the network from batches. Nothing here acts or knows environments."""
