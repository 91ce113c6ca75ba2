"""The generated corpus: labels against a second opinion, drawn from the English text one thing at a time."""

import importlib
import itertools
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NUMBERS = {"two": 2, "three": 3}


@pytest.fixture
def corpus(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("_text_corpus")


def holds(clause: str, world: list[tuple[set[str], str]]) -> bool:
    """Whether one clause is true of a list of things, each with the nouns that fit it and its colour."""
    match clause.split():
        case ["not", "all", noun, "are", colour]:
            return not all(seen == colour for nouns, seen in world if noun in nouns)
        case [("all" | "no") as word, noun, "are", *colours]:
            met = [seen in colours for nouns, seen in world if noun in nouns]
            return all(met) if word == "all" else not any(met)
        case ["some", noun, "are", colour]:
            return any(noun in nouns and seen == colour for nouns, seen in world)
        case ["most", noun, "are", colour]:
            met = [seen == colour for nouns, seen in world if noun in nouns]
            return met.count(True) > met.count(False)
        case ["more", noun, "are", first, "than", second]:
            seen_of = Counter(seen for nouns, seen in world if noun in nouns)
            return seen_of[first] > seen_of[second]
        case ["as", "many", noun, "are", first, "as", second]:
            seen_of = Counter(seen for nouns, seen in world if noun in nouns)
            return seen_of[first] == seen_of[second]
        case [*how, number, noun, "are", colour]:
            found = sum(noun in nouns and seen == colour for nouns, seen in world)
            return {
                "exactly": found == NUMBERS[number],
                "at least": found >= NUMBERS[number],
                "at most": found <= NUMBERS[number],
                "fewer than": found < NUMBERS[number],
                "more than": found > NUMBERS[number],
            }[" ".join(how)]
    raise AssertionError(f"no rule for {clause!r}")


def worlds(noun: str, sort: str, colours: list[str], things: int) -> list[list[tuple[set[str], str]]]:
    """All scenes of at most so many things, at least one of them of the noun."""
    kinds = [(nouns, colour) for nouns in ({noun, sort}, {sort}) for colour in colours]
    scenes = (
        list(scene)
        for count in range(1, things + 1)
        for scene in itertools.combinations_with_replacement(kinds, count)
    )
    return [scene for scene in scenes if any(noun in nouns for nouns, _ in scene)]


def test_labels_against_scenes_of_single_things(corpus: ModuleType) -> None:
    """Read from the English text: all pairs of clauses, and a part of the premises of two clauses."""
    scenes = worlds("dogs", "animals", ["red", "blue", "green"], things=9)
    texts = {clause: clause.text("dogs", "animals", ("red", "blue")) for clause in corpus.CLAUSES}
    assert len(set(texts.values())) == len(texts)
    true_in = {
        clause: {place for place, scene in enumerate(scenes) if holds(text, scene)}
        for clause, text in texts.items()
    }
    counted = Counter()
    singles = [((premise,), other) for premise, other in itertools.product(corpus.CLAUSES, repeat=2)]
    doubles = [((a, b), c) for a, b, c in itertools.product(corpus.CLAUSES, repeat=3)]
    for premise, hypothesis in (*singles, *doubles[::23]):
        said = set.intersection(*(true_in[clause] for clause in premise))
        both = said & true_in[hypothesis]
        expected = None if not said else 0 if both == said else 1 if both else 2
        assert corpus.label_of(premise, hypothesis) == expected, (premise, hypothesis)
        counted[expected] += 1
    assert min(counted[label] for label in (None, 0, 1, 2)) > 500


def test_larger_worlds_change_no_label(corpus: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    triples = list(itertools.product(corpus.CLAUSES, repeat=3))[::11]
    assert corpus.MOST > 5

    def labels() -> list[int | None]:
        return [corpus.label_of((first, second), hypothesis) for first, second, hypothesis in triples]

    found = {}
    for most in (4, 5, corpus.MOST):
        monkeypatch.setattr(corpus, "MOST", most)
        corpus._truth.cache_clear()
        found[most] = labels()
    corpus._truth.cache_clear()
    assert found[5] == found[corpus.MOST]
    assert found[4] != found[corpus.MOST]  # so the comparison can tell


def test_pairs_are_balanced_different_and_the_same_for_a_seed(corpus: ModuleType) -> None:
    pairs = corpus.generate_pairs(1000, seed=4)
    assert sorted(Counter(label for *_, label in pairs).values()) == [333, 333, 334]
    assert len({(premise, hypothesis) for premise, hypothesis, _ in pairs}) == 1000
    assert pairs == corpus.generate_pairs(1000, seed=4)
    assert pairs != corpus.generate_pairs(1000, seed=5)
    assert any(", and " in premise for premise, *_ in pairs)
    assert any(", and " not in premise for premise, *_ in pairs)


@pytest.mark.parametrize(
    ("premise", "hypothesis", "label"),
    [
        ("all {n} are {x}", "some {n} are {x}", "entailment"),
        ("all {n} are {x}", "most {n} are {x}", "entailment"),
        ("some {n} are {x}", "all {n} are {x}", "neutral"),
        ("some {n} are {x}", "no {n} are {x}", "contradiction"),
        ("exactly two {n} are {x}", "at most two {n} are {x}", "entailment"),
        ("exactly two {n} are {x}", "exactly three {n} are {x}", "contradiction"),
        ("not all {n} are {x}", "some {n} are {x}", "neutral"),
    ],
)
def test_plain_cases(corpus: ModuleType, premise: str, hypothesis: str, label: str) -> None:
    first, second = (corpus.Clause(statement, False, False) for statement in (premise, hypothesis))
    assert corpus.label_of((first,), second) == corpus.LABELS.index(label)
