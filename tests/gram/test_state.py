"""What a forward pass may change is put back, whatever kind of tensor it is."""

import pytest
import torch
from torch import nn

from lightning_stiffness.gram.state import kept_state, measuring

PATTERN = (torch.arange(16.0).reshape(4, 4) % 3 == 0).float() * torch.arange(16.0).reshape(4, 4)
NAN = float("nan")


def uncoalesced():
    return torch.sparse_coo_tensor([[0, 0, 2], [1, 1, 3]], [1.0, 2.0, 3.0], (4, 4))


def per_channel(zeros):
    return torch.quantize_per_channel(PATTERN, torch.ones(4), zeros, 0, torch.quint8)


KINDS = {
    "dense": lambda: PATTERN.clone(),
    "transposed": lambda: PATTERN.clone().t(),
    "expanded": lambda: torch.ones(3, 1).expand(3, 5),
    "scalar": lambda: torch.tensor(NAN),
    "empty": lambda: torch.empty(0, 3),
    "complex64": lambda: torch.complex(PATTERN, PATTERN + 1),
    "complex128": lambda: torch.complex(PATTERN.double(), PATTERN.double() + 1),
    "complex32": lambda: torch.complex(PATTERN, PATTERN).to(torch.complex32),
    "conjugate": lambda: torch.complex(PATTERN, PATTERN).conj(),
    "negative": lambda: torch.complex(PATTERN, PATTERN).conj().imag,
    "bool": lambda: PATTERN.bool(),
    "bfloat16": lambda: PATTERN.bfloat16(),
    "float8": lambda: PATTERN.to(torch.float8_e4m3fn),
    "uint16": lambda: PATTERN.to(torch.uint16),
    "COO": lambda: PATTERN.to_sparse(),
    "COO, not coalesced": uncoalesced,
    "hybrid COO": lambda: PATTERN.to_sparse(1),
    "CSR": lambda: PATTERN.to_sparse_csr(),
    "CSC": lambda: PATTERN.to_sparse_csc(),
    "BSR": lambda: PATTERN.to_sparse_bsr((2, 2)),
    "BSC": lambda: PATTERN.to_sparse_bsc((2, 2)),
    "quantised per tensor": lambda: torch.quantize_per_tensor(PATTERN, 0.1, 0, torch.qint8),
    "quantised per channel": lambda: per_channel(torch.zeros(4, dtype=torch.long)),
    "quantised per channel, float zero points": lambda: per_channel(torch.zeros(4)),
    "meta": lambda: torch.empty(3, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([PATTERN, PATTERN[:2]]),
    "jagged": lambda: torch.nested.nested_tensor([PATTERN, PATTERN[:2]], layout=torch.jagged),
    "MKL-DNN": lambda: PATTERN.to_mkldnn(),
}


def dense(tensor):
    """Plain tensors with the values of any kind."""
    if tensor.is_meta:
        return []
    if tensor.is_nested:
        return [part.clone() for part in tensor.unbind()]
    if tensor.is_quantized:
        return [tensor.dequantize()]
    tensor = tensor.to_dense() if tensor.layout != torch.strided else tensor
    wide = {torch.complex32: torch.complex64, torch.float8_e4m3fn: torch.float32, torch.uint16: torch.int32}
    return [tensor.to(wide.get(tensor.dtype, tensor.dtype)).clone()]


def assert_values(tensor, expected):
    for value, known in zip(dense(tensor), expected, strict=True):
        torch.testing.assert_close(value, known, rtol=0, atol=0, equal_nan=True)


def holding(kind, where):
    module = nn.Linear(1, 1)
    tensor = KINDS[kind]()
    if where == "buffer":
        module.register_buffer("kept", tensor)
    else:
        module.kept = tensor
    return module, tensor


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("where", ["buffer", "attribute"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_written_where_nothing_changed(kind, where):
    module, tensor = holding(kind, where)
    expected, version = dense(tensor), tensor._version
    with measuring(module):
        pass
    assert module.kept is tensor
    assert_values(tensor, expected)
    if kind != "MKL-DNN":  # whose values cannot be compared
        assert tensor._version == version


CHANGES = {
    **dict.fromkeys(["dense", "transposed", "complex64", "complex128", "bfloat16"], lambda t: t.mul_(3)),
    **dict.fromkeys(["conjugate", "negative"], lambda t: t.mul_(3)),
    "expanded": lambda t: t[:, :1].mul_(3),
    "scalar": lambda t: t.fill_(1.0),
    "complex32": lambda t: t.copy_(torch.ones(4, 4)),
    "bool": lambda t: t.logical_not_(),
    "float8": lambda t: t.copy_(torch.ones(4, 4)),
    "uint16": lambda t: t.copy_(torch.ones(4, 4)),
    **dict.fromkeys(["COO", "COO, not coalesced", "hybrid COO"], lambda t: t.mul_(3)),
    **dict.fromkeys(["CSR", "CSC", "BSR", "BSC"], lambda t: t.values().mul_(3)),
    "quantised per tensor": lambda t: t.copy_(torch.quantize_per_tensor(PATTERN + 1, 0.2, 0, torch.qint8)),
    "quantised per channel": lambda t: t.copy_(torch.ones(4, 4)),
    "nested": lambda t: t.mul_(3),
    "jagged": lambda t: t.values().mul_(3),
    "MKL-DNN": lambda t: t.mul_(3),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("where", ["buffer", "attribute"])
@pytest.mark.parametrize("kind", CHANGES)
def test_values_are_put_back(kind, where):
    module, tensor = holding(kind, where)
    expected = dense(tensor)
    with kept_state(module):
        CHANGES[kind](tensor)
        with pytest.raises(AssertionError):
            assert_values(tensor, expected)
    assert module.kept is tensor
    assert_values(tensor, expected)


RESHAPED = {
    "other entries (COO)": ("COO", lambda t: t.copy_(torch.eye(4).to_sparse())),
    "more entries (COO)": ("COO", lambda t: t.add_(torch.ones(4, 4).to_sparse())),
    "other entries (CSR)": ("CSR", lambda t: setattr(t, "data", torch.eye(4).to_sparse_csr())),
    "resized": ("dense", lambda t: t.resize_(7)),
    "other data": ("dense", lambda t: setattr(t, "data", torch.zeros(2))),
    "other precision": ("dense", lambda t: setattr(t, "data", t.data.double())),
}


@pytest.mark.parametrize("case", RESHAPED)
def test_shape_precision_and_entries_are_put_back(case):
    kind, change = RESHAPED[case]
    module, tensor = holding(kind, "buffer")
    expected = dense(tensor)
    with kept_state(module):
        change(tensor)
    assert module.kept is tensor
    assert_values(tensor, expected)
    tensor.mul_(2)  # and it is a tensor to work with
    assert_values(tensor, [2 * expected[0]])


def test_the_parts_of_a_sparse_tensor_stay_where_they_are():
    module, tensor = holding("CSR", "buffer")
    values = tensor.values()
    with kept_state(module):
        values.zero_()
    assert tensor.values().data_ptr() == values.data_ptr()
    assert values.abs().sum() > 0


def test_the_sign_of_zero_and_a_nan_are_values_too():
    module = nn.Linear(1, 1)
    module.register_buffer("kept", torch.tensor([0.0, NAN]))
    with kept_state(module):
        module.kept.copy_(torch.tensor([-0.0, 1.0]))
    assert not torch.signbit(module.kept[0])
    assert module.kept[1].isnan()


class Opaque(torch.Tensor):
    """A class of tensors that cannot be compared."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func in (torch.equal, torch.Tensor.view):
            raise NotImplementedError(func)
        return super().__torch_function__(func, types, args, kwargs)


def test_a_tensor_that_cannot_be_compared_is_put_back_unseen():
    module = nn.Linear(1, 1)
    module.register_buffer("kept", torch.ones(3).as_subclass(Opaque))
    kept = module.kept
    with kept_state(module):
        kept.mul_(2)
    assert module.kept is kept
    assert kept.tolist() == [1.0, 1.0, 1.0]
