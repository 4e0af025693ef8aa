"""The flags of each verb: a dataclass, and the function that reads it from a command line.

Nothing here imports PyTorch, so that help and mistakes are answered at once. A verb's script does what is asked, unless
the dataclass names another one as `script`.
"""
