"""Runs the attack on the paper's networks fast, and a training step of narrow ones: with an image in each lane of a vector."""
