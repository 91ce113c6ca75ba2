"""The copy that is measured on: tensors with a graph, odd tensors, what cannot be copied."""

from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_stiffness import StiffnessCallback
from lightning_stiffness.refusal import NotCopyable
from lightning_stiffness.shadow import make_shadow
from tests.callback.runs import Classifier, fc, fit


def shadow_of(module):
    return make_shadow(module, SimpleNamespace())


def assert_trains_alike(make, num_sanity_val_steps=2, **options):
    """Runs with and without measurements, none of which may fail, train the same."""
    found = []
    callback = StiffnessCallback(probe_size=8, save=False, on_error="raise", **options)
    for callbacks in ([callback], []):
        torch.manual_seed(3)
        module, _ = fit(module=make(), callbacks=callbacks, num_sanity_val_steps=num_sanity_val_steps)
        found.append(module.state_dict())
    assert len(callback.history) >= 3
    trained, expected = found
    for name, value in expected.items():
        assert trained[name].dtype == value.dtype, name
        assert torch.equal(trained[name].to_dense(), value.to_dense()), name


# Tensors that have a graph


class Outputs(Classifier):
    """Lightning's own recipe for what is computed at the end of an epoch."""

    def __init__(self, net):
        super().__init__(net)
        self.outputs = []

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.outputs.append(loss)
        return loss

    def on_train_epoch_end(self):
        self.log("mean", torch.stack(self.outputs).mean())
        self.outputs.clear()


class Features(Classifier):
    """What a hook keeps of the forward pass, and the loss uses."""

    def __init__(self, net):
        super().__init__(net)
        self.kept = {}
        self.net[1].register_forward_hook(lambda module, given, out: self.kept.__setitem__("hidden", out))

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) + 1e-3 * self.kept["hidden"].square().mean()


@pytest.mark.parametrize("module_class", [Outputs, Features])
def test_a_module_that_keeps_tensors_with_a_graph_is_measured(module_class):
    assert_trains_alike(lambda: module_class(fc()), every_n_train_steps=2)


@dataclass
class Record:
    last: object = None
    all: dict = field(default_factory=dict)


class Slots:
    __slots__ = ("__value", "unset")

    def __init__(self, value):
        self.__value = value

    def value(self):
        return self.__value


class Named(dict):
    pass


def array_of(value):
    found = np.empty(1, dtype=object)
    found[0] = value
    return found


def named_of(value):
    found = Named()
    found.value = value
    return found


HOLDERS = {
    "list": (lambda t: [t], lambda h: h[0]),
    "tuple": (lambda t: (1, t), lambda h: h[1]),
    "nested": (lambda t: {"a": [({"b": t},)]}, lambda h: h["a"][0][0]["b"]),
    "queue": (lambda t: deque([t], maxlen=3), lambda h: h[0]),
    "object": (lambda t: Record(t), lambda h: h.last),
    "object in an object": (lambda t: Record(all={"x": Record(t)}), lambda h: h.all["x"].last),
    "slots": (Slots, lambda h: h.value()),
    "attribute of a dict": (named_of, lambda h: h.value),
    "array of objects": (array_of, lambda h: h[0]),
    "function": (lambda t: lambda: t, lambda h: h()),
    "attribute": (lambda t: t, lambda h: h),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_tensors_with_a_graph_arrive_detached(name):
    hold, take = HOLDERS[name]
    module = Classifier(fc())
    kept = module.net[1].weight.square()
    module.holder = hold(kept)
    found = take(shadow_of(module).holder)
    assert not found.requires_grad
    assert torch.equal(found, kept)
    assert found.data_ptr() != kept.data_ptr()
    assert take(module.holder) is kept
    assert kept.grad_fn is not None


def test_the_graph_of_a_gradient_and_of_a_buffer():
    module = Classifier(fc())
    factor = torch.ones(3, requires_grad=True)
    (factor**3).sum().backward(create_graph=True)
    module.factor = [factor]
    module.register_buffer("scaled", module.net[1].weight.sum() * torch.ones(2))
    shadow = shadow_of(module)
    assert shadow.factor[0].requires_grad
    assert torch.equal(shadow.factor[0].grad, torch.full((3,), 3.0))
    assert shadow.factor[0].grad.grad_fn is None
    assert torch.equal(shadow.scaled, module.scaled)
    assert shadow.scaled.grad_fn is None


# Odd tensors


def sparse_kinds():
    dense = (torch.arange(16.0).reshape(4, 4) % 3 == 0).float()
    return {
        "COO": dense.to_sparse(),
        "CSR": dense.to_sparse_csr(),
        "CSC": dense.to_sparse_csc(),
        "BSR": dense.to_sparse_bsr((2, 2)),
        "BSC": dense.to_sparse_bsc((2, 2)),
    }


@pytest.mark.parametrize("name", sparse_kinds())
def test_sparse_tensors_are_copied(name):
    module = Classifier(fc())
    module.register_buffer("adjacency", sparse_kinds()[name])
    module.others = [sparse_kinds()[name]]
    shadow = shadow_of(module)
    assert shadow.adjacency is not module.adjacency
    assert shadow.adjacency.layout == module.adjacency.layout
    assert torch.equal(shadow.adjacency.to_dense(), module.adjacency.to_dense())
    assert torch.equal(shadow.others[0].to_dense(), module.others[0].to_dense())


@pytest.mark.parametrize("name", ["COO", "CSR"])
def test_a_network_with_a_sparse_buffer_is_measured(name):
    class Graph(Classifier):
        def __init__(self):
            super().__init__(fc())
            self.register_buffer("adjacency", sparse_kinds()[name])

        def training_step(self, batch, batch_idx):
            return functional.cross_entropy((self.adjacency @ self.net(batch[0]).T).T, batch[1])

    assert_trains_alike(Graph)


# What cannot be copied, by name


class Reader:
    def __init__(self):
        self.lines = (i for i in range(3))


class Refuses(nn.Module):
    def __deepcopy__(self, memo):
        raise RuntimeError("one of a kind")


def with_attribute(value, name="reader"):
    module = Classifier(fc())
    setattr(module, name, value)
    return module


def leading_back():
    module = with_attribute(Reader())
    module.net[1].parents = [module]
    return module


def deep():
    module = Classifier(fc())
    module.net[1].readers = {"a": [0, Reader()]}
    return module


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: with_attribute(Reader()),
            r"attribute reader of type Reader, for reader\.lines of type generator \(TypeError: .*\)\. Give",
        ),
        (lambda: with_attribute(Reader(), "_reader"), r"attribute _reader of type Reader, for _reader\.lines of"),
        (
            lambda: with_attribute(iter([1]).__class__ and (i for i in "a")),
            r"attribute reader of type generator \(",
        ),
        (deep, r"attribute net\.1\.readers of type dict, for net\.1\.readers\['a'\]\[1\]\.lines of type generator"),
        (leading_back, r"attribute reader of type Reader, for reader\.lines of type generator"),
        (
            lambda: with_attribute(Refuses(), "teacher"),
            r"submodule teacher of type Refuses \(RuntimeError: one of a kind\)",
        ),
    ],
    ids=["held by an object", "private", "itself", "deep", "beside a way back", "submodule"],
)
def test_what_cannot_be_copied_is_named(make, message):
    with pytest.raises(NotCopyable, match=f"cannot be copied to measure on: {message}"):
        shadow_of(make())


# Lazy parameters


def lazy():
    return Classifier(nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.LazyLinear(4)))


@pytest.mark.parametrize("at_start", [True, False])
def test_lazy_parameters_are_refused_by_name(at_start):
    with pytest.raises(
        ValueError, match=r"parameter 'net\.1\.weight' is lazy and not initialised yet: run the mod"
    ):
        fit(
            module=lazy(),
            callbacks=[StiffnessCallback(probe_size=8, save=False, at_start=at_start)],
            num_sanity_val_steps=0,
        )


def test_lazy_parameters_are_measured_once_they_are_initialised():
    def make():
        module = lazy()
        module.net(torch.zeros(2, 1, 12, 12))
        return module

    assert_trains_alike(make)


def test_buffers_that_are_lazy_do_not_stand_in_the_way():
    def make():
        norm = nn.LazyBatchNorm1d(affine=False)
        return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(144, 20), norm, nn.Linear(20, 4)))

    assert_trains_alike(make, num_sanity_val_steps=0)
