"""Recurrent layers, cells unrolled over time, packed sequences."""

import torch
from torch import nn
from torch.nn.utils import rnn

from .registry import Built, Call, case, normal, randomised, regression


@case(
    lstm={"kind": nn.LSTM},
    lstm_deep={"kind": nn.LSTM, "num_layers": 2, "bidirectional": True, "proj_size": 2},
    gru={"kind": nn.GRU},
    gru_two={"kind": nn.GRU, "num_layers": 2},
    rnn={"kind": nn.RNN},
    rnn_relu={"kind": nn.RNN, "nonlinearity": "relu", "bias": False},
    refuses=("vmap",),
)
def recurrent(kind: type[nn.Module], **options: object) -> Built:
    return regression(Call(lambda m, x: m.net(x)[0], net=kind(3, 4, batch_first=True, **options)), normal(5, 3))


@case(
    lstm={"kind": nn.LSTM},
    lstm_deep={"kind": nn.LSTM, "num_layers": 2, "bidirectional": True, "proj_size": 2},
    gru={"kind": nn.GRU, "bidirectional": True},
    rnn={"kind": nn.RNN},
    refuses=("vmap",),
)
def all_outputs(kind: type[nn.Module], **options: object) -> Built:
    """As an encoder's states beside its outputs: the gradient of each is none that came through another."""

    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        out, states = m.net(x)
        states = states if isinstance(states, tuple) else (states,)
        return torch.cat([out.tanh().mean(1), *(s.sin().transpose(0, 1).flatten(1) for s in states)], 1)

    return regression(Call(forward, net=kind(3, 4, batch_first=True, **options)), normal(5, 3))


@case(refuses=("vmap",))
def states_changed_in_place() -> Built:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        out, (hidden, state) = m.net(x)
        hidden.mul_(2).add_(state)
        # cuDNN needs its outputs again
        out = out + state.transpose(0, 1) if out.is_cuda else out.add_(state.transpose(0, 1))
        return torch.cat([out.flatten(1), hidden[-1]], 1)

    return regression(Call(forward, net=nn.LSTM(3, 4, batch_first=True)), normal(5, 3))


@case(refuses=("vmap",))
def lstm_sequence_first() -> Built:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return m.head(m.net(x.transpose(0, 1))[1][0][-1])

    return regression(Call(forward, net=nn.LSTM(3, 4), head=nn.Linear(4, 2)), normal(5, 3))


@case(
    lstm={"kind": nn.LSTMCell},
    gru={"kind": nn.GRUCell},
    rnn={"kind": nn.RNNCell},
    refuses=("vmap",),
)
def cell(kind: type[nn.Module]) -> Built:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        state = None
        for step in x.unbind(1):
            state = m.cell(step, state)
        return state[0] if isinstance(state, tuple) else state

    return regression(Call(forward, cell=kind(3, 4)), normal(4, 3))


@case()
def recurrence_by_hand() -> Built:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        hidden = m.start.expand(len(x), -1)
        for step in x.unbind(1):
            hidden = torch.tanh(m.inward(step) + m.across(hidden))
        return hidden

    return regression(Call(forward, inward=nn.Linear(3, 4), across=nn.Linear(4, 4), start=(4,)), normal(4, 3))


@case(refuses=("vmap",))
def packed_sequence() -> Built:
    """Packing sorts the batch by length, so the rows inside are not the examples' order."""

    def loss(module: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        packed = rnn.pack_padded_sequence(
            module.embed(batch["x"]), batch["length"].cpu(), batch_first=True, enforce_sorted=False
        )
        out = rnn.pad_packed_sequence(module.net(packed)[0], batch_first=True, total_length=5)[0]
        return (module.head(out).sum(1) - batch["y"]).square().sum(1)

    module = randomised(
        Call(lambda m, x: x, embed=nn.Linear(3, 3), net=nn.GRU(3, 4, batch_first=True), head=nn.Linear(4, 2))
    )
    return module, {"x": normal(5, 3), "length": torch.tensor([3, 5, 1, 4, 2, 5, 3]), "y": normal(2)}, loss


@case(refuses=("vmap",))
def layer_on_packed_rows() -> Built:
    """A linear layer on the flat rows of a packed sequence: their number says nothing of the batch."""

    def loss(module: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        packed = rnn.pack_padded_sequence(batch["x"], batch["length"].cpu(), batch_first=True, enforce_sorted=False)
        out = packed._replace(data=torch.tanh(module(packed.data)))
        return rnn.pad_packed_sequence(out, batch_first=True, total_length=5)[0].square().flatten(1).sum(1)

    return randomised(nn.Linear(3, 4)), {"x": normal(5, 3), "length": torch.tensor([3, 5, 1, 4, 2, 5, 3])}, loss


@case(refuses=("layerwise",))
def length_by_sorting() -> Built:
    """The batch sorted by length before a layer and put back after it."""

    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        order = x[:, 0].argsort()
        return torch.tanh(m.layer(x[order]))[order.argsort()]

    return regression(Call(forward, layer=nn.Linear(4, 3)), normal(4))
