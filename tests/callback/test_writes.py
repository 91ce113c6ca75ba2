"""Tensors, networks and optimizers beyond the module: what a loss writes to them is undone."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_stiffness import StiffnessCallback
from lightning_stiffness.surroundings import Surroundings
from lightning_stiffness.surroundings.writes import Writes
from tests.callback.runs import Classifier, fc, fit


def teacher():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    net(torch.randn(4, 3)).sum().backward()
    return net


CHANGES = {
    "in place": lambda net, _: net[0].weight.data.mul_(2),
    "a view": lambda net, _: net[0].weight.data[1:].zero_(),
    "several": lambda net, _: torch._foreach_add_([p.data for p in net.parameters()], 1.0),
    "by out": lambda net, _: torch.add(net[0].bias.data, 1, out=net[0].bias.data),
    "other data": lambda net, _: setattr(net[0].weight, "data", torch.zeros(3, 3)),
    "batch norm": lambda net, _: net(torch.randn(4, 3)),
    "gradients": lambda net, _: net(torch.randn(4, 3)).square().sum().backward(),
    "no gradients": lambda net, _: net.zero_grad(),
    "frozen": lambda net, _: net.requires_grad_(False),
    "an optimizer": lambda net, optimizer: optimizer.step(),
    "another rate": lambda net, optimizer: optimizer.param_groups[0].update(lr=5.0),
    "no state": lambda net, optimizer: optimizer.state.clear(),
}


def described(net, optimizer):
    told = [str(optimizer.state_dict())]
    for tensor in (*net.parameters(), *net.buffers()):
        grad = tensor.grad
        told += [id(tensor), tensor.tolist(), tensor.requires_grad, id(grad), grad is not None and grad.tolist()]
    return told


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("hold", [lambda *both: list(both), lambda *both: {"a": {"b": both}}, SimpleNamespace])
def test_a_network_beyond_the_module_is_what_it_was(name, hold):
    net = teacher()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    optimizer.step()
    holder = SimpleNamespace(held=hold(a=net, b=optimizer) if hold is SimpleNamespace else hold(net, optimizer))
    before = described(net, optimizer)
    with Surroundings(holder).kept() as surroundings:
        for alone in (True, False, True, True, True, True):
            with surroundings.loss(alone=alone):
                assert described(net, optimizer) == before
                CHANGES[name](net, optimizer)
    assert described(net, optimizer) == before


def test_what_only_a_batch_changes_is_seen():
    net = teacher()
    before = net[0].weight.tolist()
    surroundings = Surroundings(SimpleNamespace(net=net))
    for change in (False, False, False, False, True, False):
        with surroundings.loss(alone=not change):
            assert net[0].weight.tolist() == before
            if change:
                net[0].weight.data.zero_()


def test_tensors_are_not_copied_before_they_are_written_to():
    kept, written = torch.ones(1000), torch.ones(1000)
    writes = Writes([kept, written])
    with writes:
        (kept * 2).sum()
        written[:3] = 5
    assert [before.nbytes() for _, before in writes._saved.values()] == [4000]
    writes.put_back()
    assert torch.equal(written, torch.ones(1000))


def test_functions_of_torch_are_watched_too():
    total = torch.zeros(3)
    writes = Writes([total])

    def loss(x):
        total.add_(1)
        return (x * total).sum()

    with writes:
        torch.func.vmap(loss)(torch.randn(4, 3))
    writes.put_back()
    assert total.tolist() == [0.0, 0.0, 0.0]


class Branches(Classifier):
    """Its loss goes through an operator of a higher order."""

    def training_step(self, batch, batch_idx):
        scale = torch.cond(batch[0].sum() < 1e9, lambda x: x * 1, lambda x: x * 2, (torch.ones(()),))
        return functional.cross_entropy(self.net(batch[0]) * scale, batch[1])


class Attends(Classifier):
    """Another such operator, which asks for the compiler by itself."""

    def training_step(self, batch, batch_idx):
        flex = pytest.importorskip("torch.nn.attention.flex_attention").flex_attention
        with torch.no_grad():  # it has no gradient on a processor
            query = batch[0][..., :8].contiguous()
            mean = flex(query, query, query, score_mod=lambda score, b, h, i, j: score + (i - j)).mean()
        return functional.cross_entropy(self.net(batch[0]) * (1 + 0 * mean), batch[1])


@pytest.mark.parametrize("supported", [True, False])
@pytest.mark.parametrize("engine", ["auto", "loop"])
@pytest.mark.parametrize("kind", [Branches, Attends])
def test_operators_of_a_higher_order_may_be_watched_or_not(kind, engine, supported, monkeypatch):
    monkeypatch.setattr(Writes, "supports_higher_order_operators", supported)
    weights, found = fc().state_dict(), []
    for module in (kind(fc()), Classifier(fc())):
        module.net.load_state_dict(weights)
        callback = StiffnessCallback(probe_size=8, save=False, on_error="raise", engine=engine)
        fit(module=module, callbacks=[callback], max_epochs=1)
        found.append(callback.history[0].summary["train-train"]["cos"]["overall"])
    assert found[0] == pytest.approx(found[1], abs=1e-6)
