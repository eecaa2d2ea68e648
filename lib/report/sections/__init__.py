"""The exhibits: one file for each section of the paper, with its tables, figures and sentences."""
