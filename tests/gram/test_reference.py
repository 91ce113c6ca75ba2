"""Batches that differ from one another: padded to several lengths, or with calls that depend on the padding."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lightning_stiffness.gram import Examples, gradient_gram, gram_of_examples, references

WORDS, WIDTH, CLASSES = 30, 8, 3


class Attending(nn.Module):
    """Embedding → attention → feed-forward → mean over the tokens → logits; batches of ids with 0 for padding."""

    def __init__(self, skips: bool = False) -> None:
        super().__init__()
        self.skips = skips
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(20, WIDTH)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        mask = ids != 0
        hidden = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        scores = self.query(hidden) @ self.key(hidden).transpose(1, 2) / WIDTH**0.5
        if not (self.skips and bool(mask.all())):  # as some libraries do, to take a faster kernel
            scores = scores.masked_fill(~mask[:, None, :], -1e9)
        hidden = self.norm(hidden + self.out(scores.softmax(-1) @ self.value(hidden)))
        return self.head((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


def loss_fn(net: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return cross_entropy(net(batch[0]), batch[1], reduction="none")


def padded(lengths: list[int], to: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of examples of these lengths."""
    ids = torch.zeros(len(lengths), to, dtype=torch.long)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = torch.randint(1, WORDS, (length,))
    return ids, torch.randint(CLASSES, (len(lengths),))


def net_of(skips: bool = False) -> Attending:
    torch.manual_seed(0)
    return Attending(skips).double()


def check(net: nn.Module, *batches: tuple[torch.Tensor, torch.Tensor], budget: int | None = None) -> None:
    """The Gram of all batches' examples is the loop's, and nothing fell back."""
    examples = Examples.of(*batches)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "measured by torch.func, exact but slow"
        found = gram_of_examples(net, examples, None, loss_fn=loss_fn, engine="layerwise", memory_budget=budget)
    expected = gram_of_examples(net, examples, None, loss_fn=loss_fn, engine="loop")
    torch.testing.assert_close(found.values, expected.values, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("lengths", [(5, 9), (9, 5), (7, 7), (4, 11, 6, 4)])
def test_batches_padded_to_several_lengths(lengths: tuple[int, ...]) -> None:
    net = net_of()
    check(net, *(padded([length - 1, 2, length, 3, length], to=length) for length in lengths))


def test_rows_and_columns_of_different_lengths() -> None:
    net = net_of()
    rows, columns = padded([3, 5, 5], to=5), padded([8, 2, 4, 7], to=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = gradient_gram(net, rows, columns, loss_fn=loss_fn, engine="layerwise")
    expected = gradient_gram(net, rows, columns, loss_fn=loss_fn, engine="loop")
    torch.testing.assert_close(found.values, expected.values, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.other_norms, expected.other_norms, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "batches",
    [
        [([6, 6, 3, 2, 6], 6)],  # the example that is looked at first has no padding, the batch has
        [([6, 6, 6, 6], 6), ([4, 3, 6, 2], 6)],
        [([4, 3, 6, 2], 6), ([6, 6, 6, 6], 6), ([5, 6, 6, 6], 6)],
        [([6, 6, 6], 6), ([4, 4, 4, 2], 4), ([9, 9], 9)],
    ],
)
def test_a_mask_left_out_where_nothing_is_padded(batches: list[tuple[list[int], int]]) -> None:
    net = net_of(skips=True)
    check(net, *(padded(lengths, to) for lengths, to in batches))


def test_pieces_with_and_without_padding_under_a_budget() -> None:
    """Within one batch, in pieces of few examples, many of which have no padding at all."""
    net = net_of(skips=True)
    torch.manual_seed(1)
    check(net, padded([12] * 40 + [5, 12] * 10 + [12] * 40, to=12), budget=300_000)


def test_examples_that_no_single_one_explains_are_measured_all_the_same() -> None:
    class Unlike(Attending):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            logits = super().forward(ids)
            return logits if len(ids) == 1 else (logits * 2) / 2 + self.head.bias * 0

    net = Unlike().double()
    batches = padded([3, 5, 5, 2], to=5), padded([7, 2, 4], to=7)
    with pytest.warns(UserWarning, match="exact but slow"):
        found = gram_of_examples(net, Examples.of(*batches), None, loss_fn=loss_fn, engine="layerwise")
    expected = gram_of_examples(net, Examples.of(*batches), None, loss_fn=loss_fn, engine="loop")
    torch.testing.assert_close(found.values, expected.values, rtol=1e-9, atol=1e-12)


def test_a_module_that_is_like_its_examples_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = []
    alone = references.References._alone
    monkeypatch.setattr(
        references.References,
        "_alone",
        lambda self, piece, place: traced.append(place) or alone(self, piece, place),
    )
    check(net_of(), padded([5, 9, 9, 3], to=9), padded([9, 2, 4], to=9))
    assert traced == []
    check(net_of(), padded([5, 9, 9, 3], to=9), padded([7, 2, 4], to=7))
    assert traced == [1]  # one example more, of the other length


def test_the_example_looked_at_first_is_of_the_longest_batch() -> None:
    from lightning_stiffness.gram.partition import first_place

    short, long = padded([3, 3, 3], to=3), padded([8, 8], to=8)
    assert first_place(Examples.of(short, long)) == 4
    assert first_place(Examples.of(long, short)) == 1
    assert first_place(Examples.of(padded([9], to=9), short)) == 2
