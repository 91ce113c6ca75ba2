"""The copy that is measured on shares no part with the module in training, whatever a class makes of copying."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_stiffness.refusal import NotCopyable
from tests.callback.runs import Classifier, fc
from tests.callback.test_shadow_more import assert_trains_alike, shadow_of


class Teacher(nn.Module):
    def __init__(self, dtype=torch.bfloat16):
        super().__init__()
        self.layer = nn.Linear(144, 4).to(dtype).requires_grad_(False)
        self.register_buffer("scale", torch.ones(1, dtype=dtype))

    def forward(self, x):
        return (self.layer(x.flatten(1).to(self.layer.weight.dtype)) * self.scale).float()


class Itself(Teacher):
    def __deepcopy__(self, memo):
        return self


class SharesLayer(Teacher):
    def __deepcopy__(self, memo):
        twin = type(self)()
        twin.layer = self.layer
        return twin


class SharesParameter(Teacher):
    def __deepcopy__(self, memo):
        twin = type(self)()
        twin.layer.weight = self.layer.weight
        return twin


class SharesMemory(Teacher):
    def __deepcopy__(self, memo):
        twin = type(self)()
        twin.scale = self.scale.detach()
        return twin


class SharesByState(Teacher):
    def __reduce_ex__(self, protocol):
        return copy.copy, (SimpleNamespace(),), None

    def __deepcopy__(self, memo):
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin


class Around(Teacher):
    """Copies by a way of its own, correctly but for what is within."""

    def __init__(self):
        super().__init__()
        self.inner, self.handle = Itself(), (i for i in range(3))

    def __deepcopy__(self, memo):
        twin = type(self)()
        memo[id(self)] = twin
        twin._modules.update(copy.deepcopy(self._modules, memo))
        twin.own_way = True
        return twin


class Taught(Classifier):
    def __init__(self, teacher):
        super().__init__(fc())
        self.teacher = teacher

    def training_step(self, batch, batch_idx):
        teacher = self.teacher[0] if isinstance(self.teacher, list) else self.teacher
        x = batch[0]  # on a GPU, where a teacher in a list does not come along
        wanted = teacher(x.to(next(teacher.parameters()).device)).to(x)
        return super().training_step(batch, batch_idx) + functional.mse_loss(self.net(x), wanted)


STUBBORN = [Itself, SharesLayer, SharesParameter, SharesMemory, SharesByState, Around]


def described(teacher):
    return [
        (id(part), id(value), value.dtype, value.data_ptr(), value._version, part.training)
        for part in teacher.modules()
        for value in (*part._parameters.values(), *part._buffers.values())
    ]


@pytest.mark.parametrize("kind", STUBBORN)
@pytest.mark.parametrize("hidden", [False, True], ids=["submodule", "in a list"])
def test_no_part_is_shared_with_the_module_in_training(kind, hidden):
    teacher = kind()
    module = Taught([teacher] if hidden else teacher)
    before = described(teacher)
    shadow = shadow_of(module)
    twin = shadow.teacher[0] if hidden else shadow.teacher
    assert described(teacher) == before
    assert type(twin) is kind
    assert not {id(part) for part in twin.modules()} & {id(part) for part in teacher.modules()}
    for name, value in twin.state_dict(keep_vars=True).items():
        original = teacher.state_dict(keep_vars=True)[name]
        assert value.data_ptr() != original.data_ptr(), name
        assert value.dtype == torch.float32, name
    assert torch.equal(twin.layer.weight, teacher.layer.weight.float())
    assert getattr(twin, "own_way", kind is Around) == (kind is Around)


@pytest.mark.parametrize("kind", [Itself, SharesParameter])
@pytest.mark.parametrize("hidden", [False, True], ids=["submodule", "in a list"])
def test_a_half_precision_teacher_stays_what_it_is(kind, hidden):
    def make():
        teacher = kind()
        return Taught([teacher] if hidden else teacher)

    assert_trains_alike(make)


def test_a_teacher_set_past_the_module_is_a_copy_in_the_copy_and_stays_what_it_is():
    module = Taught(None)
    teacher = Itself()
    object.__setattr__(module, "teacher", teacher)
    before = described(teacher)
    shadow = shadow_of(module)
    assert shadow.teacher is not teacher
    assert described(teacher) == before


class Unwilling(Itself):
    """Nothing but itself can be had for a copy."""

    def __init__(self):
        super().__init__()
        self.handle = (i for i in range(3))


def test_a_part_that_cannot_but_be_shared_is_refused_by_name():
    module = Taught(nn.Sequential(nn.Identity(), Unwilling()))
    before = described(module.teacher)
    with pytest.raises(
        NotCopyable, match=r"its copy would share teacher\.1 \(of Unwilling\) with the module in tra"
    ):
        shadow_of(module)
    assert described(module.teacher) == before


def test_a_part_outside_the_parameters_that_cannot_but_be_shared_is_left_alone():
    class Holder:
        def __init__(self, teacher):
            self.teacher = teacher

        def __deepcopy__(self, memo):
            return self

    module = Taught([Unwilling()])
    module.holder = Holder(Teacher())
    before = described(module.teacher[0]) + described(module.holder.teacher)
    attributes = set(vars(module.teacher[0]))
    assert shadow_of(module).teacher[0] is module.teacher[0]
    assert described(module.teacher[0]) + described(module.holder.teacher) == before
    assert set(vars(module.teacher[0])) == attributes


def test_a_module_that_copies_to_itself_as_a_whole():
    class Whole(Classifier):
        def __deepcopy__(self, memo):
            return self

    module = Whole(fc())
    shadow = shadow_of(module)
    assert shadow is not module
    assert "log" not in vars(module)
    assert shadow.net[1].weight is not module.net[1].weight


def test_a_copy_with_other_parameters_is_refused():
    class Forgets(Teacher):
        def __deepcopy__(self, memo):
            return nn.Identity()

    with pytest.raises(
        NotCopyable, match=r"its copy has other parameters \(teacher\.layer\.bias, teacher\.layer\.w"
    ):
        shadow_of(Taught(Forgets()))
