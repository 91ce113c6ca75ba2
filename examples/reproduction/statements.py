"""What the paper claims, and how each claim is judged: fixed before the first run."""

ALIKE_CELLS, ALIKE_WITHIN = 0.9, 0.1
"""How like each other blocks have to be: correlation of their cells, difference of within-class stiffness."""
P_VALUE = 0.05
LEVELS = 8
"""Training losses at which rates are compared."""

CLAIMS = {
    1: (
        "The three blocks (train-train, train-val, val-val) look alike.",
        "Cosine stiffness, over all moments: the correlation between the cells of two blocks' class matrices is at "
        f"least {ALIKE_CELLS} on average, and their within-class stiffness never differs by more than "
        f"{ALIKE_WITHIN}. Mixed: only up to the lowest validation loss. (Not CIFAR-100: with ten examples of each "
        "class, single cells are noise.)",
    ),
    2: (
        "Within-class stiffness starts high, between-class stiffness rises, and both fall towards 0 as overfitting "
        "sets in.",
        "Train-val; within class by cosine, between classes by sign. (a) Within-class before training is at least "
        "half of its highest value. (b) Between-class rises from the start to the lowest validation loss. (c) "
        "Within-class and (d) the size of between-class are smaller at the end than at the lowest validation loss. "
        "Held: all four; did not hold: none.",
    ),
    3: (
        "CIFAR-100 shows blocks of its super-classes, and of living and non-living things.",
        "Train-val, sign stiffness, at the lowest validation loss, for both levels of groups: different classes of "
        "one group are stiffer than classes of different groups, and the permutation test of the grouping gives "
        f"p ≤ {P_VALUE} on every seed. Mixed: one level only.",
    ),
    4: (
        "The dynamical critical length ξ shrinks during training.",
        "Train-val, cosine: the rank correlation between epoch and ξ, from the first epoch on, is below 0.",
    ),
    5: (
        "A larger learning rate leads to a smaller ξ.",
        "Train-val, cosine: the rank correlation between rate and ξ at equal epoch, averaged over the moments from "
        "the first epoch on, is below 0. Seeds share their start and data over the rates.",
    ),
    6: (
        "A smaller learning rate leads to higher stiffness, at equal epoch and at equal training loss.",
        "Train-val, within class, cosine: the rank correlation between rate and stiffness is below 0, averaged (a) "
        f"over the moments from the first epoch on, (b) over {LEVELS} training losses that every rate passes "
        "through. Held: both; did not hold: neither.",
    ),
    7: (
        "BERT on MNLI shows the same picture.",
        "The criteria of claims 1 and 2. Held: both held; did not hold: neither.",
    ),
}
"""Number → the claim, and its criterion."""
