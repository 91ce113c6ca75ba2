"""Whole networks, as people train them, with few channels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .registry import Built, Call, case, normal, randomised, regression, tokens


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut; in-place activations, as usual."""

    def __init__(self, inside: int, outside: int, stride: int, norm: bool):
        super().__init__()
        self.one = nn.Conv2d(inside, outside, 3, stride, 1, bias=not norm)
        self.two = nn.Conv2d(outside, outside, 3, 1, 1, bias=not norm)
        self.norm_one = nn.BatchNorm2d(outside) if norm else nn.Identity()
        self.norm_two = nn.BatchNorm2d(outside) if norm else nn.Identity()
        same = inside == outside and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inside, outside, 1, stride, bias=False)
        self.active = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm_two(self.two(self.active(self.norm_one(self.one(x)))))
        out += self.shortcut(x)
        return self.active(out)


def resnet(blocks: int, norm: bool, widths: tuple[int, ...] = (3, 4, 6)) -> nn.Module:
    """ResNet v1 for small images: ``6 · blocks + 2`` layers."""
    layers: list[nn.Module] = [nn.Conv2d(2, widths[0], 3, 1, 1), nn.ReLU(inplace=True)]
    inside = widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            layers.append(ResidualBlock(inside, width, 2 if stage and not block else 1, norm))
            inside = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 3))


def classify(module: nn.Module, x: Tensor, classes: int = 3) -> Built:
    labels = torch.randint(classes, (len(x),))
    return (
        randomised(module),
        (x, labels),
        lambda module, batch: F.cross_entropy(module(batch[0]), batch[1], reduction="none"),
    )


@case(block={"blocks": 1, "widths": (3,)}, twenty={"blocks": 3}, twenty_without_norm={"blocks": 3, "norm": False})
def residual(blocks: int, norm: bool = True, widths: tuple[int, ...] = (3, 4, 6)) -> Built:
    module, batch, loss = classify(resnet(blocks, norm, widths), normal(2, 8, 8))
    if not norm:
        with torch.no_grad():  # without norm, activations double at every block
            for parameter in module.parameters():
                parameter *= 0.5
    return module, batch, loss


@case()
def channels_last() -> Built:
    module, (x, labels), loss = classify(resnet(1, True), normal(2, 8, 8))
    module = module.to(memory_format=torch.channels_last)
    return module, (x.to(memory_format=torch.channels_last), labels), loss


@case()
def small_convolutional_network() -> Built:
    layers: list[nn.Module] = []
    for inside, outside in ((1, 4), (4, 5), (5, 5)):
        layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return classify(nn.Sequential(*layers, nn.Flatten(), nn.Linear(5, 3)), normal(1, 8, 8))


@case()
def vision_transformer() -> Built:
    class Vit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(2, 6, 2, 2)
            self.token, self.places = nn.Parameter(torch.zeros(1, 1, 6)), nn.Parameter(torch.zeros(1, 5, 6))
            layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True, norm_first=True, activation="gelu")
            self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
            return self.head(self.norm(self.body(x))[:, 0])

    return classify(Vit(), normal(2, 4, 4))


@case()
def shifted_windows() -> Built:
    """Attention within windows that are folded into the batch axis, with a table of relative biases."""

    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out, self.table = nn.Linear(4, 12), nn.Linear(4, 4), nn.Parameter(torch.zeros(9, 2))
            at = torch.stack(torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")).flatten(1)
            offset = at[:, :, None] - at[:, None, :] + 1
            self.register_buffer("index", offset[0] * 3 + offset[1])

        def forward(self, x: Tensor) -> Tensor:  # [n, 4, 4, 4]
            n = len(x)
            windows = x.roll((-1, -1), (1, 2)).view(n, 2, 2, 2, 2, 4).transpose(2, 3).reshape(4 * n, 4, 4)
            q, k, v = self.qkv(windows).view(4 * n, 4, 3, 2, 2).permute(2, 0, 3, 1, 4)
            bias = self.table[self.index.view(-1)].view(4, 4, 2).permute(2, 0, 1)
            attention = (q @ k.mT + bias).softmax(-1)
            out = self.out((attention @ v).transpose(1, 2).reshape(4 * n, 4, 4))
            out = out.view(n, 2, 2, 2, 2, 4).transpose(2, 3).reshape(n, 4, 4, 4)
            return x + out.roll((1, 1), (1, 2))

    return regression(Windows(), normal(4, 4, 4))


@case()
def mixer() -> Built:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.across, self.within = nn.LayerNorm(4), nn.Linear(5, 5), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = x + F.gelu(self.across(self.norm(x).transpose(1, 2))).transpose(1, 2)
            return x + F.gelu(self.within(x))

    return regression(nn.Sequential(Mixer(), Mixer()), normal(5, 4))


@case()
def convnext_block() -> Built:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = m.depthwise(x).permute(0, 2, 3, 1)
        y = m.down(F.gelu(m.up(m.norm(y))))
        return x + (m.gamma * y).permute(0, 3, 1, 2)

    return regression(
        Call(
            forward,
            depthwise=nn.Conv2d(4, 4, 3, padding=1, groups=4),
            norm=nn.LayerNorm(4),
            up=nn.Linear(4, 8),
            down=nn.Linear(8, 4),
            gamma=(4,),
        ),
        normal(4, 5, 5),
    )


@case()
def squeeze_and_excite() -> Built:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return x * torch.sigmoid(m.expand(F.silu(m.squeeze(x.mean((2, 3), keepdim=True)))))

    return regression(Call(forward, squeeze=nn.Conv2d(4, 2, 1), expand=nn.Conv2d(2, 4, 1)), normal(4, 5, 5))


@case()
def unet() -> Built:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        skip = F.relu(m.enter(x))
        deep = F.relu(m.deep(F.max_pool2d(skip, 2)))
        return m.leave(torch.cat([skip, m.up(deep)], 1))

    return regression(
        Call(
            forward,
            enter=nn.Conv2d(1, 3, 3, padding=1),
            deep=nn.Conv2d(3, 4, 3, padding=1),
            up=nn.ConvTranspose2d(4, 3, 2, 2),
            leave=nn.Conv2d(6, 1, 1),
        ),
        normal(1, 6, 6),
    )


@case()
def densely_connected() -> Built:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(
                nn.Sequential(nn.BatchNorm2d(2 + 2 * i), nn.ReLU(), nn.Conv2d(2 + 2 * i, 2, 3, padding=1))
                for i in range(3)
            )

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = torch.cat([x, layer(x)], 1)
            return x.mean((2, 3))

    return regression(Dense(), normal(2, 5, 5))


@case()
def point_set() -> Built:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return m.head(m.points(x.flatten(0, 1)).unflatten(0, x.shape[:2]).amax(1))

    return regression(
        Call(forward, points=nn.Sequential(nn.Linear(3, 5), nn.Tanh()), head=nn.Linear(5, 2)), normal(6, 3)
    )


@case()
def graph_convolution() -> Built:
    """A dense adjacency per example; node features folded into the batch for batch norm."""

    def loss(module: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        x = batch["adjacency"] @ module.one(batch["x"])
        x = module.norm(x.flatten(0, 1)).view_as(x).relu()
        return (batch["adjacency"] @ module.two(x)).mean(1).square().sum(1)

    module = randomised(Call(lambda m, x: x, one=nn.Linear(3, 4), norm=nn.BatchNorm1d(4), two=nn.Linear(4, 2)))
    return module, {"x": normal(5, 3), "adjacency": torch.rand(7, 5, 5).softmax(-1)}, loss


@case(refuses=("vmap",))
def routed_experts() -> Built:
    """Each token goes to one expert by a mask: the experts see as many rows as the data say."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        gate = m.router(flat).softmax(-1)
        weight, chosen = gate.max(-1)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(m.experts):
            mine = chosen == number
            out[mine] = expert(flat[mine]) * weight[mine, None]
        return x + out.view_as(x)

    experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
    return regression(Call(forward, router=nn.Linear(4, 3), experts=experts), normal(5, 4))


@case()
def state_space_scan() -> Built:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        decay = torch.exp(-F.softplus(m.rate))
        state, out = torch.zeros_like(x[:, 0]), []
        for step in m.inward(x).unbind(1):
            state = decay * state + step
            out.append(state * m.readout)
        return torch.stack(out, 1) + m.skip * x

    return regression(Call(forward, rate=(4,), inward=nn.Linear(4, 4), readout=(4,), skip=(4,)), normal(5, 4))


@case()
def variational_autoencoder() -> Built:
    """The noise comes with the batch, so that a batch and single examples agree."""

    def loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, noise = batch
        mean, log_variance = module.encoder(x).chunk(2, -1)
        decoded = module.decoder(mean + noise * (log_variance / 2).exp())
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
        return (decoded - x).square().sum(1) + divergence

    return Call(lambda m, x: x, encoder=nn.Linear(4, 4), decoder=nn.Linear(2, 4)), (normal(4), normal(2)), loss


@case()
def character_model() -> Built:
    """A causal convolutional language model with tied embeddings; one loss per example, over its tokens."""

    def loss(module: nn.Module, ids: Tensor) -> Tensor:
        hidden = F.pad(module.embed(ids).transpose(1, 2), (2, 0))
        logits = F.linear(torch.tanh(module.conv(hidden)).transpose(1, 2), module.embed.weight)
        return F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none").mean(1)

    return randomised(Call(lambda m, x: x, embed=nn.Embedding(6, 4), conv=nn.Conv1d(4, 4, 3))), tokens(6, 6), loss


@case()
def traced_graph() -> Built:
    """A module rewritten by torch.fx."""
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    return regression(torch.fx.symbolic_trace(net), normal(4))


@case(refuses=("vmap",))
def physics_informed() -> Built:
    """A loss on derivatives of the network with respect to its input: gradients through a gradient."""

    def loss(module: nn.Module, x: Tensor) -> Tensor:
        x = x.detach().clone().requires_grad_()
        value = module(x)
        (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        return (slope.sum(1) - value[:, 0]).square()

    return nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)), normal(2), loss
