"""
Learning and memorising
=======================

The same network learns true labels and random ones. Both runs end with every training example right; what a step
does to examples that were not trained on tells them apart.
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lightning_stiffness import StiffnessHistory, measure_stiffness
from lightning_stiffness.figures import class_matrix_figure

torch.manual_seed(0)
inputs = torch.randn(400, 10, dtype=torch.float64)
truth = inputs[:, :2].argmax(1)
noise = truth[torch.randperm(400)]


def loss_fn(net, batch):
    x, y = batch
    return cross_entropy(net(x), y, reduction="none")


# %%
# Two runs
# --------
# Each is measured before its first step and at some steps after it.


def run(labels):
    torch.manual_seed(1)
    train, val = (inputs[:200], labels[:200]), (inputs[200:], labels[200:])
    net = nn.Sequential(
        nn.Linear(10, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2)
    ).double()  # in float32 the last losses would be 0, and without a gradient
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    results = []
    for step in range(51):
        if step in (0, 5, 10, 20, 50):
            results.append(measure_stiffness(net, train, val, loss_fn=loss_fn, step=step, epoch=step, resamples=0))
        optimizer.zero_grad()
        loss_fn(net, train).mean().backward()
        optimizer.step()
    right = [(net(x).argmax(1) == y).float().mean() for x, y in (train, val)]
    print(f"right: {right[0]:.0%} of training, {right[1]:.0%} of validation examples")
    return StiffnessHistory(results)


learning, memorising = run(truth), run(noise)

# %%
# Stiffness between training and validation examples
# --------------------------------------------------
# With random labels a step ends up helping unseen examples of its class little, and it hurts those of the other
# class as much: what was learned is the examples.

for name in ("within_class", "between_class"):
    for labels, history in (("true", learning), ("random", memorising)):
        values = history.scalar(f"stiffness/train-val/cos/{name}")
        print(f"{name:<13} {labels:>6} labels: " + " ".join(f"{value:5.2f}" for value in values))

# %%
# The class matrices at the end
# -----------------------------

learned = class_matrix_figure(learning[-1], "train-val", "cos")
memorised = class_matrix_figure(memorising[-1], "train-val", "cos")
