"""Evaluation: full episodes of a fixed policy, films, and scores of saved policies."""
