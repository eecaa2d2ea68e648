"""Holds what the science stands on: files, checks of arguments, layers, checkpoints, and a recipe's settings at each step."""
