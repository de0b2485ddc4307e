"""Transforms, loading, the loop, checkpoints and history of a training run."""
