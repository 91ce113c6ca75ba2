"""
A first look
============

A network is trained on points of three classes, and stiffness says which classes help which.
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lightning_stiffness import measure_stiffness
from lightning_stiffness.figures import class_matrix_figure, distance_curve_figure

torch.manual_seed(0)

# %%
# The data
# --------
# Two classes lie near to each other, the third one far away.

centers = torch.tensor([[0.0, 0.0], [1.5, 0.0], [0.0, 6.0]])
names = ["near", "neighbour", "far"]


def points(size):
    labels = torch.arange(size) % 3
    return centers[labels] + 0.7 * torch.randn(size, 2), labels


train, val = points(300), points(150)


def loss_fn(net, batch):
    x, y = batch
    return cross_entropy(net(x), y, reduction="none")


# %%
# Training
# --------

net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 3))
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
for _ in range(150):
    optimizer.zero_grad()
    loss_fn(net, train).mean().backward()
    optimizer.step()

# %%
# Which classes help which?
# -------------------------
# A step on a point of one class helps unseen points of its class. The two classes that lie side by side compete:
# what pulls a point towards one pushes it away from the other.

result = measure_stiffness(net, train, val, loss_fn=loss_fn, class_names=names, step=150)
matrix = class_matrix_figure(result, "train-val", "cos")
print(result.summary["train-val"]["cos"])

# %%
# How far does a step reach?
# --------------------------

curve = distance_curve_figure(result, "train-val", "cos")
