"""Every layer of ``torch.nn`` that has parameters, apart from attention and recurrence."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.devices import any_algorithms

from .registry import Built, Call, case, normal, randomised, regression, tokens


@case(plain={}, without_bias={"bias": False}, tokens={"shape": (5, 4)}, many_axes={"shape": (2, 3, 4)})
def linear(bias: bool = True, shape: tuple[int, ...] = (4,)) -> Built:
    return regression(nn.Linear(4, 3, bias=bias), normal(*shape))


@case()
def perceptron() -> Built:
    return regression(
        nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), normal(6)
    )


@case(plain={}, tokens={"shape": (5,)})
def bilinear(shape: tuple[int, ...] = ()) -> Built:
    return regression(
        Call(lambda m, x: m.layer(x[..., :3], x[..., 3:]), layer=nn.Bilinear(3, 4, 2)), normal(*shape, 7)
    )


@case(
    plain={},
    strided={"stride": 2, "padding": 1},
    dilated={"dilation": 2, "padding": 2},
    grouped={"groups": 2},
    depthwise={"groups": 4, "out": 8},
    same={"padding": "same"},
    circular={"padding": 2, "padding_mode": "circular"},
    reflect={"padding": 1, "padding_mode": "reflect"},
    replicate={"padding": 1, "padding_mode": "replicate"},
    without_bias={"bias": False},
)
def conv1d(out: int = 6, **options: object) -> Built:
    return regression(nn.Conv1d(4, out, 3, **options), normal(4, 9))


@case(
    plain={},
    strided={"stride": 2, "padding": 1},
    uneven={"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 1), "dilation": (1, 2)},
    grouped={"groups": 2, "padding": 1},
    depthwise={"groups": 4, "out": 8},
    pointwise={"kernel_size": 1},
    whole={"kernel_size": 7},
    same={"padding": "same", "dilation": 2},
    circular={"padding": 1, "padding_mode": "circular"},
    reflect={"padding": (1, 2), "padding_mode": "reflect"},
    replicate={"padding": 1, "padding_mode": "replicate"},
    leftover={"stride": 3},
)
def conv2d(out: int = 6, kernel_size: object = 3, **options: object) -> Built:
    return regression(nn.Conv2d(4, out, kernel_size, **options), normal(4, 7, 7))


@case(plain={}, strided={"stride": 2, "padding": 1, "groups": 2})
def conv3d(**options: object) -> Built:
    return regression(nn.Conv3d(2, 4, 3, **options), normal(2, 5, 4, 5))


@case(
    one={"kind": nn.ConvTranspose1d, "axes": 1, "stride": 2, "padding": 1, "output_padding": 1},
    one_grouped={"kind": nn.ConvTranspose1d, "axes": 1, "groups": 2, "dilation": 2},
    two={"kind": nn.ConvTranspose2d, "axes": 2},
    two_strided={"kind": nn.ConvTranspose2d, "axes": 2, "stride": 2, "padding": 1, "output_padding": 1},
    two_grouped={"kind": nn.ConvTranspose2d, "axes": 2, "groups": 2, "stride": 2},
    three={"kind": nn.ConvTranspose3d, "axes": 3, "stride": 2},
)
def conv_transposed(kind: type[nn.Module], axes: int, **options: object) -> Built:
    return regression(kind(4, 6, 3, **options), normal(4, *[4] * axes))


@case(
    plain={},
    padding={"padding_idx": 2},
    sparse={"sparse": True},
    frequency={"scale_grad_by_freq": True},
    max_norm={"max_norm": 1.0},
    refuses=("vmap",),
)
def embedding(**options: object) -> Built:
    return regression(nn.Embedding(6, 4, **options), tokens(5, 6))


@case()
def embedding_of_one_token() -> Built:
    return regression(nn.Embedding(6, 4), tokens(5, 6)[:, 0])


@case(
    sum={"mode": "sum"},
    mean={"mode": "mean"},
    max={"mode": "max"},
    padding={"mode": "mean", "padding_idx": 2},
    sparse={"mode": "sum", "sparse": True},
    refuses=("vmap",),
)
def embedding_bag(**options: object) -> Built:
    return regression(nn.EmbeddingBag(6, 4, **options), tokens(5, 6))


@case(refuses=("vmap",))
def embedding_bag_weighted() -> Built:
    weighted = Call(
        lambda m, x: m.bag(x.long(), per_sample_weights=x.frac()), bag=nn.EmbeddingBag(6, 4, mode="sum")
    )
    return regression(weighted, tokens(5, 6) + 0.1 + 0.8 * torch.rand(7, 5))


@case(
    layer={"norm": lambda: nn.LayerNorm(4), "shape": (5, 4)},
    layer_two_axes={"norm": lambda: nn.LayerNorm((5, 4)), "shape": (3, 5, 4)},
    layer_without_bias={"norm": lambda: nn.LayerNorm(4, bias=False), "shape": (4,)},
    group={"norm": lambda: nn.GroupNorm(2, 4), "shape": (4, 5)},
    batch1d={"norm": lambda: nn.BatchNorm1d(4), "shape": (4,)},
    batch1d_length={"norm": lambda: nn.BatchNorm1d(4), "shape": (4, 5)},
    batch2d={"norm": lambda: nn.BatchNorm2d(4), "shape": (4, 3, 3)},
    batch3d={"norm": lambda: nn.BatchNorm3d(4), "shape": (4, 3, 2, 2)},
    sync_batch={"norm": lambda: nn.SyncBatchNorm(4), "shape": (4, 3, 3)},
    instance1d={"norm": lambda: nn.InstanceNorm1d(4, affine=True), "shape": (4, 5)},
    instance2d={"norm": lambda: nn.InstanceNorm2d(4, affine=True), "shape": (4, 3, 3)},
    instance2d_running={
        "norm": lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        "shape": (4, 3, 3),
    },
    instance3d={"norm": lambda: nn.InstanceNorm3d(4, affine=True), "shape": (4, 3, 2, 2)},
    rms={"norm": lambda: nn.RMSNorm(4), "shape": (5, 4)},
)
def norm(norm: object, shape: tuple[int, ...]) -> Built:
    return regression(norm(), normal(*shape))


@case(one={}, channels={"num_parameters": 4}, features={"num_parameters": 4, "shape": (4,)})
def prelu(num_parameters: int = 1, shape: tuple[int, ...] = (4, 3)) -> Built:
    return regression(nn.PReLU(num_parameters), normal(*shape))


@case(refuses=("vmap",))
def adaptive_softmax() -> Built:
    layer = nn.AdaptiveLogSoftmaxWithLoss(5, 9, cutoffs=[3, 6], div_value=1.5)

    def loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        with any_algorithms():  # on a GPU the deterministic ones fail at the places of a single example
            return -module(*batch).output

    return layer, (normal(5), tokens(1, 9)[:, 0]), loss


@case()
def frozen_layers_between() -> Built:
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 2))
    net[2].requires_grad_(False)
    return regression(net, normal(4))


@case(weight={"frozen": "weight"}, bias={"frozen": "bias"})
def frozen(frozen: str) -> Built:
    net = nn.Sequential(nn.Conv1d(3, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(12, 3), nn.LayerNorm(3))
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(not name.endswith(frozen))
    return regression(net, normal(3, 5))


@case(parameters=["2.*", "0.weight"])
def chosen_parameters() -> Built:
    return regression(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)), normal(4))


@case(parameters=["0"])
def chosen_first_layer_of_convolutions() -> Built:
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return regression(net, normal(2, 6, 6))


@case()
def dropout_in_eval() -> Built:
    return regression(nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 2)), normal(4))


@case(refuses=("vmap",))
def no_input_gradient_needed() -> Built:
    return regression(Call(lambda m, x: F.one_hot(x, 6).to(m.w) @ m.w, w=(6, 3)), tokens(1, 6)[:, 0])


if hasattr(nn, "LinearCrossEntropyLoss"):  # newer than the oldest torch supported

    @case(refuses=("vmap",))
    def linear_cross_entropy_loss() -> Built:
        module = randomised(nn.LinearCrossEntropyLoss(4, 3, bias=True, reduction="none"))
        return module, (torch.randn(7, 4), torch.arange(7) % 3), lambda module, batch: module(*batch)
