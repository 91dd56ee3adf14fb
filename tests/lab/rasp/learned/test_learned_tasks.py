"""The tasks' sentences and tags, and the data sets made of them."""

from collections import Counter

import pytest
import torch

from microtome.lab.rasp.learned import transformer_programs as tp
from microtome.lab.rasp.learned.data import UNSEEN, Examples, tensors
from microtome.lab.rasp.learned.options import BOS, EOS, PAD, UNK

SIZES = {"dyck1": {"max_length": 16}, "dyck2": {"max_length": 16}, "induction": {"vocab": 10, "max_length": 10}}


def examples(name: str, count: int = 400, seed: int = 0):
    task = tp.task(name, **SIZES.get(name, {}))
    sentences = task.draw(count, torch.Generator().manual_seed(seed))
    return task, sentences, [task.tag(sentence) for sentence in sentences]


def spec_most_freq(words):
    order = sorted(set(words), key=lambda w: (-words.count(w), words.index(w)))
    return order + [BOS] * (len(words) - len(order))


def spec_double_hist(words):
    return [str(len({v for v in words if words.count(v) == words.count(w)})) for w in words]


def spec_dyck(words):
    tags = []
    for i in range(1, len(words) + 1):
        prefix = "".join(words[:i])
        while prefix != (shorter := prefix.replace("()", "").replace("{}", "")):
            prefix = shorter
        tags.append("F" if set(prefix) & {")", "}"} else "P" if prefix else "T")
    return tags


SPECIFICATIONS = {
    "reverse": lambda words: list(reversed(words)),
    "sort": sorted,
    "hist": lambda words: [str(words.count(w)) for w in words],
    "double_hist": spec_double_hist,
    "most_freq": spec_most_freq,
    "dyck1": spec_dyck,
    "dyck2": spec_dyck,
}


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_tags_are_what_the_task_says(name):
    task, sentences, tags = examples(name)
    end = [EOS] if name in ("reverse", "sort") else []
    for sentence, found in zip(sentences, tags, strict=True):
        words = sentence[1 : len(sentence) - len(end)]
        assert sentence == [BOS, *words, *end]
        assert set(sentence) <= set(task.words)
        assert found == [PAD, *SPECIFICATIONS[name](words), *[PAD] * len(end)]


@pytest.mark.parametrize(
    ("name", "letters", "longest"),
    [("reverse", 5, 6), ("sort", 5, 6), ("hist", 6, 7), ("double_hist", 6, 7), ("most_freq", 6, 7)],
)
def test_words_and_lengths_are_uniform(name, letters, longest):
    """4,000 sentences: each frequency is within 6 standard deviations of its share, false alarms below 1e-7 in all."""
    _, sentences, _ = examples(name, 4_000)
    inner = [[word for word in sentence if word not in (BOS, EOS)] for sentence in sentences]
    counts = Counter(map(len, inner))
    assert set(counts) == set(range(1, longest + 1))
    spread = (4_000 / longest) ** 0.5
    assert all(abs(count - 4_000 / longest) < 6 * spread for count in counts.values())
    words = Counter(word for sentence in inner for word in sentence)
    share = sum(words.values()) / letters
    assert set(words) == {str(i) for i in range(letters)}
    assert all(abs(count - share) < 6 * share**0.5 for count in words.values())


@pytest.mark.parametrize("name", ["dyck1", "dyck2"])
def test_dyck_sentences_are_noise_or_begin_balanced(name):
    """Half of 2,000 sentences are made to begin balanced: 800 lie 9 standard deviations below, 100 further still."""
    _, sentences, tags = examples(name, 2_000)
    assert {len(sentence) for sentence in sentences} == {16}
    assert sum("T" in found for found in tags) >= 800
    assert sum(found[1] == "F" for found in tags) >= 100
    assert {"P", "T", "F", PAD} == {tag for found in tags for tag in found}
    for found in tags:
        assert "F" not in found or set(found[found.index("F") :]) == {"F"}, "what has failed stays failed"


def test_induction_asks_for_the_digit_that_a_letter_had():
    task, sentences, tags = examples("induction")
    assert task.causal
    for sentence, found in zip(sentences, tags, strict=True):
        assert len(sentence) == 10
        code = {}
        for i, (word, tag) in enumerate(zip(sentence, found, strict=True)):
            assert tag == (code.get(word, UNK) if word.isalpha() else PAD)
            if word.isalpha() and i + 1 < len(sentence):
                assert code.setdefault(word, sentence[i + 1]) == sentence[i + 1], "a letter keeps its digit"
    starts = Counter(sentence[1].isalpha() for sentence in sentences)
    assert min(starts.values()) > 100, "400 fair draws: 100 lies 10 standard deviations below"


@pytest.mark.parametrize("name", tp.TASKS)
def test_data_is_different_sentences_split_in_three(name):
    size = 200
    data = tp.draw(tp.task(name, **SIZES.get(name, {})), size, seed=3)
    parts = (data.train, data.validation, data.test)
    assert [len(part) for part in parts] == [162, 18, 20]
    assert len({tuple(sentence) for part in parts for sentence in part.sentences}) == size
    again = tp.draw(tp.task(name, **SIZES.get(name, {})), size, seed=3)
    assert [part.sentences for part in (again.train, again.test)] == [
        part.sentences for part in (data.train, data.test)
    ]
    assert tp.draw(tp.task(name, **SIZES.get(name, {})), size, seed=4).train.sentences != data.train.sentences
    assert data.tokens[0] == data.classes[0] == PAD
    assert all(len(s) == len(t) for part in parts for s, t in zip(part.sentences, part.tags, strict=True))


def test_a_small_space_gives_what_it_has():
    data = tp.draw(tp.task("hist", vocab=4, max_length=4), 1_000)
    parts = (data.train, data.validation, data.test)
    assert sum(map(len, parts)) == 2 + 4 + 8
    assert [len(part) for part in parts] == [10, 2, 2]


def test_tensors_are_padded_and_weigh_every_sentence_alike():
    data = tp.draw(tp.task("hist"), 100)
    options = data.options(1, 1, 1, 1, 1)
    found = tensors(Examples(([BOS, "1", "0", "1"], [BOS, "2"]), ([PAD, "2", "1", "2"], [PAD, "9"])), options)
    assert found.tokens.shape == (2, 8)
    assert (found.tokens == 0).sum(-1).tolist() == [4, 6]
    assert found.asked.sum(-1).tolist() == [3, 1]
    assert found.targets[1, 1] == UNSEEN, "no training sentence has nine of a kind"
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(2))
    assert found.weights[0, 1] == pytest.approx(1 / 3)


def test_options_follow_the_data():
    data = tp.draw(tp.task("induction", vocab=10, max_length=10), 100)
    options = data.options(2, 1, 0, 0, 0)
    assert (options.causal, options.n_ctx, options.d_var) == (True, 10, 10)
    assert data.options(2, 1, 0, 0, 0, d_var=12).d_var == 12
    assert UNK in options.classes


@pytest.mark.usefixtures("untyped")
def test_bad_tasks_are_refused():
    with pytest.raises(ValueError, match=r"no task is called 'hits' \(did you mean hist"):
        tp.task("hits")
    with pytest.raises(ValueError, match="no task is called ''; there are reverse, sort"):
        tp.task("")
    for name, vocab, max_length in (
        ("hist", 2, 8),
        ("reverse", 3, 8),
        ("sort", 8, 2),
        ("induction", 3, 10),
        ("dyck1", 8, 1),
    ):
        with pytest.raises(
            ValueError, match=f"{name} needs a word and room for it.*vocab={vocab} and max_length={max_length}"
        ):
            tp.task(name, vocab=vocab, max_length=max_length)
    with pytest.raises(ValueError, match="an even length"):
        tp.task("induction", vocab=10, max_length=9)
    with pytest.raises(ValueError, match="hist gave 2 different sentences; three parts need at least 3"):
        tp.draw(tp.task("hist", vocab=3, max_length=3), 20)
    with pytest.raises(ValueError, match="size must be at least 1, not 0"):
        tp.draw(tp.task("hist"), 0)
