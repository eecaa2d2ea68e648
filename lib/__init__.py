"""The thin library under the book: the grid, the data, the attack, the training, the records, the exhibits."""
