"""Figures of runs: records, learning curves, scores, aggregates over games, comparisons and pictures of them."""
