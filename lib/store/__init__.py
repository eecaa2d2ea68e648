"""The grid as data, the records, and the weights that are kept: what is computed once and read many times."""
