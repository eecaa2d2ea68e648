"""The exhibits, one file a section of the paper: each holds its tables, figures and sentences whole."""
