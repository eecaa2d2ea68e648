"""How a processor runs the attack on the paper's networks: in one compiled call, image by image in the lanes of its vectors."""
