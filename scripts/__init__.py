"""The command line: `pixelq VERB`, or `python scripts/VERB.py`."""
