"""The thin library under the book: the grid, the data, the attack, the training, the records, the exhibits."""

import gc

# Importing torch, pandas and matplotlib makes a million objects, and they stay. To look through them for garbage after
# every 700 more, as Python does by default, takes a tenth of the time until a page's first cell has run.
gc.set_threshold(10_000, 10, 10)
