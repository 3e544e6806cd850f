"""Training: steps, blocks, feeds, stopping, checkpoints, the address of a NaN."""
