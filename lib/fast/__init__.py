"""Runs the attack on the paper's networks fast: on a processor in one compiled call, with an image in each lane of a vector."""
