"""The fields of a row in a network's table, as whole numbers: the operation, and the planes and weights that it takes.

A plane begins at its index among the vectors; -1 where a row has no such plane. Planes of `side`² pixels may have a border of
zeros, which pads a convolution.
"""

FIELDS = (
    "kind",
    "x",  # the planes that are read, with a border of `margin`
    "margin",
    "side",  # of x, without its border
    "channels",  # of x
    "w",  # weights
    "bias",  # one a unit
    "out",  # the planes that are written, with a border of `border`
    "border",
    "out_channels",
    "kernel",
    "stride",
    "winner",  # of each pooling window, the mark that tells which of its four pixels was largest; -1: no pooling
    # What follows a sum of products, in this order.
    "add",  # planes to add
    "total",  # where the sum is kept
    "scale",  # a factor and a shift, channel by channel
    "active",  # planes; the result is zero where they are not positive
    "relu",
    "onto",  # planes to add after all that
)  # fmt: skip
WIDTH = len(FIELDS)
(
    KIND, X, MARGIN, SIDE, CHANNELS, W, BIAS, OUT, BORDER, OUT_CHANNELS, KERNEL, STRIDE, WINNER, ADD, TOTAL, SCALE, ACTIVE,
    RELU, ONTO,
) = range(WIDTH)  # fmt: skip
PLANES = (X, OUT, WINNER, ADD, TOTAL, ACTIVE, ONTO)  # the fields that name planes
ATTACK_KINDS = (
    "convolve", "dense", "unpool", "spread", "standardize", "standardize_gradient", "mean", "mean_gradient", "loss", "step",
)  # fmt: skip
# Of a training step besides. The last two are barriers: all images of the batch have come so far.
TRAINING_KINDS = ("normalize", "moments", "norm_sums", "norm_gradient", "weigh", "combine", "combine_gradient")
KINDS = ATTACK_KINDS + TRAINING_KINDS
