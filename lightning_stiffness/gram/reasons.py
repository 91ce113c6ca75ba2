"""Why examples that may affect each other take the slower way, in words."""

APART = (
    "the loss of an example is another where its batch is smaller (by {:.1e} of it): the examples affect each "
    "other, as where those with the largest losses are chosen, or values are held against the batch's mean"
)

NO_MEAN = (
    "the loss of a batch is not the mean of those of its parts (by {:.1e} of it): the examples affect each other, "
    "as where values are held against the batch's mean"
)

NO_SUM = (
    "the loss of a batch is not the sum of those of its examples (by {:.1e} of it): they affect each other, as "
    "where a number of them all is rounded and decides what is computed for some"
)

NOT_OF_PARTS = (
    "the gradient of a batch is not made of those of its parts, with whatever weights: the examples affect each "
    "other, or have other gradients by their place in the batch or their rank in it"
)

BY_SIZE = (
    "functions hooked to gradients, or with a gradient of their own, change these by their size, as where they "
    "clip them: in the mean over a batch gradients are smaller than alone"
)

ALONG = "the module takes examples for neighbours: {} is called along the axis that they are on"

DECIDED = (
    "values of all examples decide what is computed for them, and the loss of a batch is no plain mean or sum: "
    "whether each example alone would have the same can't be told from it"
)

NO_TELLING = (
    "for a batch it makes other calls than for one example, and the loss of a batch is no plain mean or sum: what "
    "weighs the examples can't be told from what these calls do to them"
)

CHOSEN = (
    "the loss of a batch is put together of several, is no plain mean or sum, and holds labels, weights or "
    "choices that the module makes itself: for some examples parts of it may weigh otherwise than alone"
)

HALF = (
    "it computes in half precision, and makes values of all examples: whether the examples affect each other, or "
    "are rounded otherwise in a batch, can't be told from a loss that is no plain mean or sum, nor where a copy in "
    "float64 is rounded too"
)

BENT = (
    "the gradient of a batch is not that of its parts (by {:.1e} of it), though their losses are: some examples' "
    "gradients are stopped, or changed, by their place in the batch or their rank in it"
)
