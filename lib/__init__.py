"""The thin library under the book: the grid, the data, the attack, the training, the records, the exhibits."""

import atexit
import gc

# Importing torch, pandas and matplotlib makes a million objects, and they stay until the end. To look through them for
# garbage after every 700 more, as Python does by default, and once more at exit, takes seconds of a page's ten.
gc.set_threshold(10_000, 10, 10)
atexit.register(gc.freeze)
