"""Insight: recorded episodes, activations, saliency, and a map of the states of a policy. Nothing here draws a page."""
