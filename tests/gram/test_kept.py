"""Modules that change what they hold, parameters among it, as they compute: every example meets the same module."""

import collections
import contextlib
import copy
import functools
import itertools
import random
import threading
from types import BuiltinMethodType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_stiffness.gram import class_means, gradient_gram
from lightning_stiffness.gram.held import MANY, SMALL, Held
from lightning_stiffness.gram.kept import KeptModule
from lightning_stiffness.gram.problem import EngineRefusal, LossError

N = 7


def each(module, batch):
    return F.cross_entropy(module(batch[0]), batch[1], reduction="none")


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, 6, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (N,), generator=generator)


class Net(nn.Module):
    """A network whose ``change`` is called with itself and hidden activations, before or after they are used."""

    def __init__(self, change, *, after=True):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 4)
        self.teacher = nn.Linear(8, 8).requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(8), requires_grad=False)
        self.memory = SimpleNamespace(mean=torch.zeros(8, dtype=torch.float64), seen=0)
        self.listed = [torch.zeros(8, dtype=torch.float64)]
        self.hidden = [nn.Linear(8, 8).double().requires_grad_(False)]
        self.counts = collections.OrderedDict(seen=0)
        self.array = np.zeros(8)
        self.step = functools.partial(setattr, self.memory, "seen")
        self.change, self.after = change, after
        self.double()

    def forward(self, x):
        h = torch.tanh(self.first(x))
        if not self.after:
            self.change(self, h.detach())
        # clones, as the backward pass needs what was used, and not what comes of it
        taught = F.linear(h, self.teacher.weight.clone(), self.teacher.bias)
        out = h * self.scale.clone() + taught - self.memory.mean - self.listed[0]
        out = self.last(out + F.linear(h, self.hidden[0].weight.clone()))
        shift = self.counts["seen"] + self.memory.seen + float(self.array.sum())
        out = out + shift * torch.arange(1.0, 5.0, dtype=torch.float64)
        if self.after:
            self.change(self, h.detach())
        return out


@torch.no_grad()
def follow(net, h):
    net.teacher.weight.lerp_(torch.outer(h.mean(0), h.mean(0)), 0.3)


def through_data(net, h):
    net.scale.data.mul_(0.5).add_(h.mean(0))


def exchanged(net, h):
    net.scale.data = net.scale.data * 0.5 + h.mean(0)


@torch.no_grad()
def several(net, h):
    torch._foreach_mul_([net.scale, net.teacher.bias], 1.5)


@torch.no_grad()
def into(net, h):
    torch.mul(net.scale, 1.5, out=net.scale)


@torch.no_grad()
def trained(net, h):
    net.first.bias.add_(h.mean(0), alpha=0.3)


@torch.no_grad()
def hidden(net, h):
    net.hidden[0].weight.mul_(1.5)


def replaced(net, h):
    net.memory.mean = 0.9 * net.memory.mean + 0.1 * h.mean(0)
    net.memory.seen += 1


def in_an_object(net, h):
    net.memory.mean.add_(h.mean(0))


def in_a_list(net, h):
    net.listed[0].add_(h.mean(0))


def in_a_dictionary(net, h):
    net.counts["seen"] += 1


def in_an_array(net, h):
    net.array += h.mean(0).numpy()


def hooked(net, h):
    if not net.last._forward_hooks:
        net.last.register_forward_hook(lambda module, given, out: 2 * out)


def by_a_partial(net, h):
    net.step(3)


def by_numpy(net, h):
    net.scale.detach().numpy()[:] *= 1.5


def frozen(net, h):
    net.last.weight.requires_grad_(False)


CHANGES = (
    hooked,
    by_a_partial,
    by_numpy,
    frozen,
    follow,
    through_data,
    exchanged,
    several,
    into,
    trained,
    hidden,
    replaced,
    in_an_object,
    in_a_list,
    in_a_dictionary,
)


def by_hand(module, examples, loss=each):
    """The Gram from the gradients of each example on a copy of the module."""
    rows = []
    for i in range(N):
        twin = copy.deepcopy(module)
        wanted = [p for p in twin.parameters() if p.requires_grad]
        total = loss(twin, tuple(t[i : i + 1] for t in examples)).sum()
        total.backward()
        rows.append(torch.cat([(p.grad if p.requires_grad else torch.zeros_like(p)).flatten() for p in wanted]))
    gradients = torch.stack(rows)
    return gradients @ gradients.T


def contents(module):
    """Everything that the module holds, by value."""
    state = {name: value.clone() for name, value in module.state_dict().items()}
    objects = (module.memory.mean, module.memory.seen, module.listed[0], module.counts["seen"], module.array)
    return state, copy.deepcopy([*objects, module.hidden[0].state_dict()])


def assert_alike(one, two):
    torch.testing.assert_close(one, two, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:stiffness of Net")
@pytest.mark.parametrize("engine", ["loop", "vmap", "auto"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_example_meets_the_same_module(change, engine):
    torch.manual_seed(0)
    module, examples = Net(change), batch()
    before, expected = contents(module), by_hand(module, examples)
    for _ in range(2):
        found = None
        # torch.func alone can't do some of them, and says so
        with contextlib.suppress(EngineRefusal) if engine == "vmap" else contextlib.nullcontext():
            found = gradient_gram(module, examples, loss_fn=each, engine=engine)
        if found is not None:
            torch.testing.assert_close(found.values, expected, rtol=1e-9, atol=1e-12)
        assert_alike(contents(module), before)
    module(examples[0])  # nothing is left in it that torch.func alone can work with


@pytest.mark.filterwarnings("ignore:stiffness of Net")
@pytest.mark.parametrize("change", [follow, trained, replaced], ids=lambda change: change.__name__)
def test_what_is_changed_before_it_is_used(change):
    torch.manual_seed(0)
    module, examples = Net(change, after=False), batch()
    before, expected = contents(module), by_hand(module, examples)
    for engine in ("loop", "auto"):
        found = gradient_gram(module, examples, loss_fn=each, engine=engine)
        torch.testing.assert_close(found.values, expected, rtol=1e-9, atol=1e-12)
        assert_alike(contents(module), before)


def test_arrays():
    torch.manual_seed(0)
    module, examples = Net(in_an_array), batch()
    before, expected = contents(module), by_hand(module, examples)
    found = gradient_gram(module, examples, loss_fn=each, engine="loop")
    torch.testing.assert_close(found.values, expected, rtol=1e-9, atol=1e-12)
    assert_alike(contents(module), before)


def test_class_means():
    torch.manual_seed(0)
    module, examples = Net(follow), batch()
    before = contents(module)

    def sums(module):
        return class_means.class_gradient_sums(
            module, [examples], loss_fn=each, label_fn=lambda b: b[1], num_classes=4
        )

    with torch.no_grad():
        still = copy.deepcopy(module)
        still.change = lambda net, h: None
    torch.testing.assert_close(sums(module).matrix(), sums(still).matrix(), equal_nan=True)
    assert_alike(contents(module), before)


class Tied(nn.Module):
    """Its embedding is its output layer too, and torch scales the rows that are looked up."""

    def __init__(self, functional):
        super().__init__()
        self.embedding = nn.Embedding(12, 8, max_norm=None if functional else 1.0)
        self.layer = nn.Linear(8, 8)
        self.functional = functional
        self.double()

    def forward(self, x):
        weight = self.embedding.weight
        found = F.embedding(x, weight, max_norm=1.0) if self.functional else self.embedding(x)
        return F.linear(torch.tanh(self.layer(found.mean(1))), weight)


@pytest.mark.filterwarnings("ignore:stiffness of Tied", "ignore:There is a performance drop")
@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize("engine", ["loop", "auto"])
def test_rows_that_are_scaled_and_used_elsewhere(engine, functional):
    torch.manual_seed(0)
    module, examples = Tied(functional), (torch.randint(12, (N, 5)), torch.randint(4, (N,)))
    before, expected = module.embedding.weight.detach().clone(), by_hand(module, examples)
    found = gradient_gram(module, examples, loss_fn=each, engine=engine)
    torch.testing.assert_close(found.values, expected, rtol=1e-9, atol=1e-12)
    assert_alike(module.embedding.weight.detach(), before)


def unseen(net, h):
    with torch._C.DisableTorchFunction(), torch.no_grad():
        net.scale.mul_(1.5)


@pytest.mark.parametrize("engine", ["loop", "auto"])
def test_a_change_that_cannot_be_undone_is_an_error(engine):
    module = Net(unseen)
    with pytest.raises(LossError, match=r"the loss of Net changes its parameter 'scale' in place"):
        gradient_gram(module, batch(), loss_fn=each, engine=engine)


def test_a_loss_that_keeps_parameters_itself():
    """Such as the callback's, which measures on a copy."""
    module = Net(unseen)
    scale = module.scale.detach().clone()

    def loss(module, batch):
        with torch._C.DisableTorchFunction(), torch.no_grad():
            module.scale.copy_(scale)
        return each(module, batch)

    loss.keeps_parameters = True
    torch.testing.assert_close(
        gradient_gram(module, batch(), loss_fn=loss, engine="loop").values, by_hand(module, batch(), loss)
    )


class Slots:
    __slots__ = ("mean", "other", "unset")

    def __init__(self):
        self.mean, self.other = torch.zeros(2), [1]


def holding(value):
    module = nn.Linear(1, 1)
    module.held = value
    return module


class Lru(collections.OrderedDict):
    """Has ideas of its own of what is put into it."""

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.move_to_end(key, last=False)


class Unsized(tuple):
    """Has no length, as e3nn's representations."""

    def __len__(self):
        raise NotImplementedError


class UnsizedList(list):
    def __len__(self):
        raise NotImplementedError

    __iter__ = None


class Locked:
    def __init__(self):
        self.lock, self.count = threading.Lock(), 0


def counting():
    """A function that is closed over a number and a list."""
    seen, count = [], 0

    def count_up():
        nonlocal count
        count += 1
        seen.append(count)

    count_up.told = lambda: [count, *seen]
    return count_up


def drawn(generator):
    """The next number, without drawing it."""
    return copy.deepcopy(generator).random()


HELD = {
    "a dictionary of its own kind": (lambda: Lru(a=1, b=2), lambda held: held.update(c=3)),
    "a slot that was empty": (Slots, lambda held: setattr(held, "unset", 1)),
    "an object with a lock": (Locked, lambda held: setattr(held, "count", 1)),
    "what a function is closed over": (counting, lambda held: held()),
    "a function's object": (
        lambda: functools.partial(setattr, SimpleNamespace(a=1), "a"),
        lambda held: held(2),
    ),
    "the append of a list": (lambda: [1].append, lambda held: held(2)),
    "a box": (lambda: collections.UserDict(a=1), lambda held: held.update(b=2)),
    "an iterator": (lambda: SimpleNamespace(count=itertools.count()), lambda held: next(held.count)),
    "a generator of Python": (lambda: random.Random(0), lambda held: held.random()),
    "a generator of NumPy": (lambda: np.random.default_rng(0), lambda held: held.random()),
    "a parameter in a list": (
        lambda: [nn.Parameter(torch.zeros(2))],
        lambda held: setattr(held[0], "data", torch.ones(2)),
    ),
    "whether a parameter in a list is trained": (
        lambda: [nn.Parameter(torch.zeros(2))],
        lambda held: held[0].requires_grad_(False),
    ),
    "slots": (Slots, lambda held: (held.mean.add_(1), held.other.append(2))),
    "an attribute of slots": (Slots, lambda held: setattr(held, "mean", torch.ones(2))),
    "an object in a tuple": (lambda: (SimpleNamespace(a=1),), lambda held: setattr(held[0], "a", 2)),
    "an object in a tuple without a length": (
        lambda: Unsized((SimpleNamespace(a=1),)),
        lambda held: setattr(tuple.__getitem__(held, 0), "a", 2),
    ),
    "a list without a length": (lambda: UnsizedList([1]), lambda held: held.append(2)),
    "a new attribute": (SimpleNamespace, lambda held: setattr(held, "a", 2)),
    "an object in an object": (
        lambda: SimpleNamespace(inner=SimpleNamespace(values=[1])),
        lambda held: held.inner.values.append(2),
    ),
    "a counter": (lambda: collections.Counter("aab"), lambda held: held.update("b")),
    "a dictionary with defaults": (lambda: collections.defaultdict(list), lambda held: held["a"].append(1)),
    "a set": (lambda: {1, 2}, lambda held: held.add(3)),
    "a list in a list": (lambda: [[1], [2]], lambda held: held[0].append(3)),
    "a buffer of a module in a list": (
        lambda: [nn.BatchNorm1d(2)],
        lambda held: held[0](torch.arange(6.0).reshape(3, 2)),
    ),
    "an array in a dictionary": (lambda: {"a": np.zeros(3)}, lambda held: held["a"].__iadd__(1)),
}


def flattened(value):
    """Plain values, in order."""
    if isinstance(value, BuiltinMethodType):
        return flattened(value.__self__)
    if isinstance(value, nn.Parameter):
        return value.tolist(), value.requires_grad
    if isinstance(value, random.Random | np.random.Generator):
        return drawn(value)
    if isinstance(value, collections.UserDict):
        return flattened(value.data)
    if isinstance(value, itertools.count):
        return repr(value)
    if isinstance(value, functools.partial):
        return flattened(value.args[0])
    if hasattr(value, "told"):
        return value.told()
    if isinstance(value, torch.Tensor | np.ndarray):
        return value.tolist()
    if isinstance(value, nn.Module):
        return flattened(list(value.state_dict().values()))
    if isinstance(value, dict):
        return {key: flattened(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        kind = list if isinstance(value, list) else tuple
        return [flattened(entry) for entry in kind.__iter__(value)]
    if isinstance(value, type(threading.Lock())):
        return "a lock"
    if hasattr(value, "__slots__"):
        return [flattened(getattr(value, name, None)) for name in value.__slots__]
    return flattened(vars(value)) if hasattr(value, "__dict__") else value


@pytest.mark.parametrize("kind", HELD)
def test_what_objects_hold(kind):
    make, change = HELD[kind]
    module = holding(make())
    thing, expected = module.held, flattened(make())
    kept = KeptModule(module.modules())
    change(module.held)
    assert flattened(module.held) != expected
    kept.put_back()
    assert flattened(module.held) == expected
    assert module.held is thing


def test_global_generators_are_left_to_those_who_measure():
    shared = [torch.default_generator, random.random.__self__, np.random.random_sample.__self__]
    held = Held(holding(SimpleNamespace(shared=shared)).modules())
    before = torch.get_rng_state()
    torch.rand(3)
    drawn = torch.get_rng_state()
    held.put_back()
    assert torch.equal(torch.get_rng_state(), drawn)
    torch.set_rng_state(before)


def test_rings_of_objects_end():
    ring = SimpleNamespace(count=0)
    ring.ring, ring.module = ring, holding(None)
    ring.module.held = ring
    held = Held(holding(ring).modules())
    ring.count = 3
    held.put_back()
    assert ring.count == 0


def test_large_tensors_are_copied_when_something_writes_to_them():
    large = torch.zeros(SMALL // 4 + 1)
    module = holding(SimpleNamespace(bank=large))
    kept = KeptModule(module.modules())
    with kept.watched():
        module.held.bank[3:5].fill_(1)
    kept.put_back()
    assert not large.any()


def test_long_containers_within_others_are_data():
    data, history = list(range(MANY + 1)), list(range(MANY + 1))
    module = holding({"data": data})
    module.history = history
    held = Held(module.modules())
    data.append(0)
    history.append(0)
    held.put_back()
    assert len(data) == MANY + 2  # an item of a data set or two, and no measurement's business
    assert len(history) == MANY + 1


def centred(module, batch):
    batch[0].sub_(batch[0].mean(-1, keepdim=True)).add_(0.1)
    return each(module, batch)


def masked(module, batch):
    batch[1][:] = 0
    return each(module, batch)


def placed(module, batch):
    x = batch[0]
    x += module.first.bias[:6]
    return each(module, batch)


def leaky(module, batch):
    return each(module, (F.leaky_relu(batch[0], inplace=True), batch[1]))


def taken_out(module, batch):
    return F.cross_entropy(module(batch.pop("x")), batch.pop("y"), reduction="none")


@pytest.mark.filterwarnings("ignore:stiffness of Net")
@pytest.mark.parametrize("engine", ["loop", "vmap", "auto"])
@pytest.mark.parametrize("loss", [centred, masked, placed, leaky])
def test_a_loss_that_changes_its_batch(loss, engine):
    torch.manual_seed(0)
    module, examples = Net(lambda net, h: None), batch()
    expected = by_hand(module, [t.clone() for t in examples], lambda m, b: loss(m, [t.clone() for t in b]))
    for _ in range(3):
        found = gradient_gram(module, examples, loss_fn=loss, engine=engine)
        torch.testing.assert_close(found.values, expected, rtol=1e-9, atol=1e-12)
        assert_alike(examples, batch())


@pytest.mark.parametrize("engine", ["loop", "auto"])
def test_a_loss_that_takes_its_batch_apart(engine):
    module, (x, y) = Net(lambda net, h: None), batch()
    examples = {"x": x, "y": y}
    found = gradient_gram(module, examples, loss_fn=taken_out, engine=engine)
    torch.testing.assert_close(found.values, by_hand(module, (x, y)), rtol=1e-9, atol=1e-12)
    assert [*examples] == ["x", "y"]


@pytest.mark.filterwarnings("ignore:stiffness of Net")
@pytest.mark.parametrize("engine", ["loop", "auto"])
def test_what_a_loss_holds(engine):
    """As a centre that follows the outputs does, which the module knows nothing of."""
    torch.manual_seed(0)
    module, examples = Net(lambda net, h: None), batch()
    centre = SimpleNamespace(mean=torch.zeros(4, dtype=torch.float64))

    def loss(module, batch, centre=centre):
        out = module(batch[0])
        found = F.cross_entropy(3 * (out - centre.mean), batch[1], reduction="none")
        centre.mean = 0.5 * centre.mean + 0.5 * out.detach().mean(0)
        return found

    expected = by_hand(module, examples, lambda m, b: loss(m, b, copy.deepcopy(centre)))
    found = gradient_gram(module, examples, loss_fn=loss, engine=engine)
    torch.testing.assert_close(found.values, expected, rtol=1e-9, atol=1e-12)
    assert not centre.mean.any()


def test_embeddings_are_not_copied_that_nothing_writes_to():
    module = nn.Embedding(5, 3)
    kept = KeptModule(module.modules())
    with kept.watched():
        module(torch.tensor([1]))
    assert not kept._saved


def test_gradients_of_parameters_are_kept():
    module = nn.Linear(2, 1)
    grad = module.weight.grad = torch.ones(1, 2)
    kept = KeptModule(module.modules())
    module.zero_grad()
    kept.put_back()
    assert module.weight.grad is grad
    assert module.bias.grad is None
