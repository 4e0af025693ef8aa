"""Runs on more than one process or machine."""
