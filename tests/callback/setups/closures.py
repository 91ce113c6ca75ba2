"""Functions, hooks and lists on a module that refer to its live parameters and buffers."""

import copy
import functools
import io
import logging
import threading
import types
import weakref

import torch
from torch import nn
from torch.nn import functional

from tests.callback.setups.base import Plain, Run, cross_entropy, setup, small


def penalised(module, batch):
    return cross_entropy(module, batch) + 0.1 * module.net[1].weight.square().sum()


class Penalised(Plain):
    """Adds to the loss what ``self.penalty`` returns."""

    def training_step(self, batch, batch_idx):
        return cross_entropy(self, batch) + 0.1 * self.penalty()


@setup("a lambda that captures self")
def lambda_of_self():
    class Lambda(Penalised):
        def __init__(self):
            super().__init__()
            self.penalty = lambda: self.net[1].weight.square().sum()

    return Run(Lambda(), penalised, slow=True)


@setup("a closure over a parameter")
def closure():
    module = Penalised()
    weight = module.net[1].weight

    one = torch.tensor(1.0)

    def penalty(scale=one, *, parameters=(weight,)):
        return scale * sum(p.square().sum() for p in parameters)

    module.penalty = penalty
    return Run(module, penalised, slow=True)


@setup("functools.partial over a parameter")
def partial():
    module = Penalised()
    module.penalty = functools.partial(lambda weight: weight.square().sum(), module.net[1].weight)
    return Run(module, penalised, slow=True)


@setup("a bound method kept as an attribute")
def bound_method():
    class Bound(Penalised):
        def __init__(self):
            super().__init__()
            self.penalty = self.norm
            self.again = functools.partial(self.norm)

        def norm(self):
            return self.net[1].weight.square().sum()

        def training_step(self, batch, batch_idx):
            return cross_entropy(self, batch) + 0.05 * self.penalty() + 0.05 * self.again()

    return Run(Bound(), penalised, slow=True)


@setup("a list of parameters as a plain attribute")
def parameter_list():
    class Listed(Penalised):
        def __init__(self):
            super().__init__()
            self.decayed = [p for p in self.net.parameters() if p.ndim > 1]
            self.groups = {"first": self.decayed[:1]}

        def penalty(self):
            return sum(p.square().sum() for p in self.groups["first"])

    return Run(Listed(), penalised, slow=True)


@setup("a hook whose closure refers to the module")
def hook():
    class Hooked(Plain):
        def __init__(self):
            super().__init__()
            seen = []

            def scale(part, inputs, output):
                seen.append(float(output.detach().mean()))
                return output * self.net[1].bias.exp().mean()

            self.seen = seen
            self.net[1].register_forward_hook(scale)
            self.net[3].register_forward_pre_hook(lambda part, inputs: (inputs[0] * self.net[3].bias.cos().sum(),))

    def loss(module, batch):
        x, y = batch
        first, second = module.net[1], module.net[3]
        hidden = functional.linear(x.flatten(1), first.weight, first.bias) * first.bias.exp().mean()
        logits = functional.linear(hidden.tanh() * second.bias.cos().sum(), second.weight, second.bias)
        return functional.cross_entropy(logits, y)

    return Run(Hooked(), loss)


FEATURES: list[torch.Tensor] = []
COUNTS = {"calls": 0}


@setup("hooks and steps that write to global variables and class attributes")
def global_lists():
    class Writes(Plain):
        losses = []  # noqa: RUF012 - the mistake is the case
        calls = 0

        def __init__(self):
            super().__init__()
            self.net[1].register_forward_hook(lambda part, inputs, output: FEATURES.append(output.detach()))

        def training_step(self, batch, batch_idx):
            loss = cross_entropy(self, batch)
            self.losses.append(loss.item())
            COUNTS["calls"] += 1
            type(self).calls += 1
            self.log_dict({"all": float(len(self.losses)), "calls": float(self.calls + COUNTS["calls"])})
            self.log("features", float(len(FEATURES)))
            return loss

    FEATURES.clear()
    COUNTS["calls"] = 0
    return Run(Writes(), cross_entropy)


@setup("forward replaced by a function that wraps it")
def wrapped_forward():
    module = Plain()
    original = module.net[1].forward

    def halved(self, x):
        return original(x) * 0.5 + self.bias.sum()

    module.net[1].forward = types.MethodType(halved, module.net[1])

    def loss(module, batch):
        x, y = batch
        first = module.net[1]
        hidden = functional.linear(x.flatten(1), first.weight, first.bias) * 0.5 + first.bias.sum()
        return functional.cross_entropy(module.net[3](hidden.tanh()), y)

    return Run(module, loss)


@setup("a cached function of a parameter")
def cached():
    class Cached(Penalised):
        def __init__(self):
            super().__init__()

            @functools.cache
            def width(scale):
                return scale * self.net[1].weight.shape[0] / 10

            self.width = width
            self.penalty = lambda: self.width(1.0) * self.net[1].weight.square().sum()

    return Run(Cached(), penalised, slow=True)


@setup("a submodule that refers back to its owner weakly")
def weak():
    class Head(nn.Module):
        def __init__(self, owner):
            super().__init__()
            self.owner, self.also = weakref.ref(owner), [weakref.proxy(owner)]

        def forward(self, batch):
            return 0.05 * (self.owner().net[1].weight.square().sum() + self.also[0].net[1].weight.square().sum())

    class Owner(Plain):
        def __init__(self):
            super().__init__()
            self.head = Head(self)

        def training_step(self, batch, batch_idx):
            return cross_entropy(self, batch) + self.head(batch)

    return Run(Owner(), penalised, slow=True)


@setup("a helper object with functions of its own")
def helper():
    class Helper:
        def __init__(self, net):
            self.functions = {"norm": lambda: net[1].weight.square().sum(), "other": [lambda: net[3].bias]}

    class Helped(Penalised):
        def __init__(self):
            super().__init__()
            self.helper = Helper(self.net)

        def penalty(self):
            return self.helper.functions["norm"]()

    return Run(Helped(), penalised, slow=True)


LIVE = {}


@setup("a global variable that holds the module", refused="depends on 'net.1.weight' of the module in training")
def global_module():
    class Reaches(Penalised):
        def penalty(self):
            return LIVE["module"].net[1].weight.square().sum()

    LIVE["module"] = Reaches()
    return Run(LIVE["module"])


@setup("a step that writes into a global module", refused="changed parameters of the module in training: teacher.")
def writes_globally():
    class Writes(Plain):
        def __init__(self):
            super().__init__()
            self.teacher = copy.deepcopy(self.net).requires_grad_(False)

        def training_step(self, batch, batch_idx):
            with torch.no_grad():
                for mine, its in zip(self.net.parameters(), LIVE["writes"].teacher.parameters(), strict=True):
                    its.lerp_(mine, 0.2)
            return functional.mse_loss(self.net(batch[0]), self.teacher(batch[0]))

    LIVE["writes"] = Writes()
    return Run(LIVE["writes"])


@setup("loss_fn= that uses the module in training", refused="of the module in training by a way that a copy")
def loss_of_live_module():
    module = Plain()
    return Run(module, stiffness={"loss_fn": lambda _, batch: cross_entropy(module, batch)})


@setup("a parameter that is not registered", refused="is not among its named_parameters()")
def unregistered():
    class Hidden(Plain):
        def __init__(self):
            super().__init__()
            self.extra = [nn.Parameter(torch.ones(4))]

        def on_fit_start(self):
            self.extra[0].data = self.extra[0].data.to(self.device)

        def training_step(self, batch, batch_idx):
            return functional.cross_entropy(self.net(batch[0]) * self.extra[0], batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD([*self.parameters(), *self.extra], lr=0.1)

    return Run(Hidden())


@setup("an attribute that cannot be copied", refused="attribute reader of type generator")
def uncopyable():
    module = Plain()
    module.reader = (i for i in range(3))
    return Run(module)


@setup(
    "a shared object that leads to the live parameters", refused="of the module in training by a way that a copy"
)
def shared():
    class Shared:
        def __init__(self, net):
            self.net = net

        def __deepcopy__(self, memo):
            return self

    class Sharing(Penalised):
        def __init__(self):
            super().__init__(small())
            self.shared = Shared(self.net)

        def penalty(self):
            return self.shared.net[1].weight.square().sum()

    return Run(Sharing())


@setup("locks, open files and writers as attributes")
def handles():
    class Writer:
        def __init__(self):
            self.lock, self.scalars = threading.Lock(), []

        def add_scalar(self, name, value, step):
            with self.lock:
                self.scalars.append((name, value, step))

    class Handles(Plain):
        def __init__(self):
            super().__init__()
            self.lock, self.file, self.writer = threading.RLock(), io.StringIO(), Writer()
            self.notes = logging.getLogger("tests.setups")

        def training_step(self, batch, batch_idx):
            loss = cross_entropy(self, batch)
            with self.lock:
                self.file.write(f"{self.global_step} ")
            self.writer.add_scalar("loss", loss.detach(), self.global_step)
            self.log_dict({"written": float(len(self.file.getvalue())), "kept": float(len(self.writer.scalars))})
            return loss

    return Run(Handles(), cross_entropy)


@setup("a teacher kept out of the parameters in a list")
def hidden_teacher():
    class Taught(Plain):
        def __init__(self):
            super().__init__()
            self.teacher = [copy.deepcopy(self.net).requires_grad_(False)]

        def on_fit_start(self):
            self.teacher[0].to(self.device)

        def training_step(self, batch, batch_idx):
            return functional.mse_loss(self.net(batch[0]), self.teacher[0](batch[0]) + 1)

    def loss(module, batch):
        return (module.net(batch[0]) - module.teacher[0].double()(batch[0]) - 1).square().mean()

    return Run(Taught(), loss)
