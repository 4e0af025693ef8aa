"""Storage: files, checkpoints and pretrained policies, and the validation of what is read from them."""
