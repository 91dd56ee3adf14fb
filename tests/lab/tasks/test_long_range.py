"""The tasks of the Long Range Arena (Tay et al. 2020): each label told again from what is drawn."""

import pytest
import torch

from microtome.lab import zoo
from microtome.lab.tasks.long_range import forest
from microtome.lab.tasks.long_range.image import Image
from microtome.lab.tasks.long_range.listops import ListOps
from microtome.lab.tasks.long_range.marks import TwoMarks
from microtome.lab.tasks.long_range.protocol import majority_rate
from microtome.lab.tasks.long_range.retrieval import Retrieval
from microtome.lab.tasks.long_range.text import SourcePassages, Text
from microtome.lab.train.classification import SequenceLabels

SMALL_LISTS = ListOps(min_length=20, max_length=60, depth=5, arguments=4)
TASKS = [
    SMALL_LISTS,
    Text(length=80, shortest=40),
    SourcePassages(length=64),
    Retrieval(length=40),
    TwoMarks(length=40, gap=20),
    Image(),
]


def value(tokens):
    """An expression's value by a stack, independent of how it was grown."""
    reduce = {
        "MIN": min,
        "MAX": max,
        "MED": lambda xs: int(sorted(xs)[len(xs) // 2] + sorted(xs)[(len(xs) - 1) // 2]) // 2,
        "SM": lambda xs: sum(xs) % 10,
    }
    stack = [[]]
    for token in tokens:
        if token == forest.CLOSER:
            name, *arguments = stack.pop()
            stack[-1].append(reduce[name](arguments))
        elif token >= forest.OPENER:
            stack.append([forest.OPERATORS[token - forest.OPENER]])
        else:
            stack[-1].append(token - 1)
    ((found,),) = stack
    return found


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
def test_batches_are_what_the_protocol_says_and_follow_the_generator(task):
    first, again = (task.sample(6, torch.Generator().manual_seed(3)) for _ in range(2))
    other = task.sample(6, torch.Generator().manual_seed(4))
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.tokens, other.tokens)
    shape = (6, 2, task.length) if task.pairs else (6, task.length)
    assert first.tokens.shape == first.mask.shape == shape
    assert 0 <= first.tokens.min() <= first.tokens.max() < task.d_vocab
    assert 0 <= first.labels.min() <= first.labels.max() < task.n_classes
    with pytest.raises(ValueError, match="batch must be at least 1"):
        task.sample(0, torch.Generator())


def test_every_tree_comes_to_its_label_and_none_comes_twice(generator):
    batch = SMALL_LISTS.sample(200, generator)
    rows = [row[row > 0].tolist() for row in batch.tokens]
    assert [value(row) for row in rows] == batch.labels.tolist()
    assert all(20 < len(row) < 60 for row in rows)
    assert len({tuple(row) for row in rows}) == 200


def test_published_lists_lie_in_their_window(generator):
    batch = ListOps().sample(3, generator)
    rows = [row[row > 0].tolist() for row in batch.tokens]
    assert [value(row) for row in rows] == batch.labels.tolist()
    assert all(500 < len(row) < 2000 for row in rows)


def test_marks_decide_and_stand_apart(generator):
    batch = TwoMarks(length=40, gap=20).sample(300, generator)
    marked = batch.tokens <= 2
    assert (marked.sum(1) == 2).all()
    places = marked.nonzero()[:, 1].view(-1, 2)
    kinds = batch.tokens[marked].view(-1, 2)
    assert (places[:, 1] - places[:, 0] >= 20).all()
    assert torch.equal((kinds[:, 0] == kinds[:, 1]).long(), batch.labels)


def test_related_documents_share_their_capitals(generator):
    batch = Retrieval(length=40, ngram=3).sample(50, generator)
    capitals = (batch.tokens - 1 >= ord("A")) & (batch.tokens - 1 <= ord("Z"))
    assert (capitals.sum(-1) == 3).all()
    one, two = batch.tokens[capitals].view(50, 2, 3).unbind(1)
    assert torch.equal((one == two).all(-1).long(), batch.labels)


def test_named_texts_are_labelled_by_their_names(generator):
    batch = Text(length=120, shortest=60).sample(50, generator)
    for row, mask, label in zip(batch.tokens, batch.mask, batch.labels.tolist(), strict=True):
        text = bytes((row[mask] - 1).tolist()).decode()
        names = [word for word in text.split() if word.isupper()]
        assert len(names) == 2
        assert (names[0] == names[1]) == bool(label)


def test_a_constant_answer_reaches_the_commonest_class_s_share():
    assert majority_rate(torch.tensor([2, 0, 2, 1])) == 0.5
    with pytest.raises(ValueError, match="labels must be at least 1, not 0"):
        majority_rate(torch.zeros(0, dtype=torch.long))


def test_kept_passages_are_never_trained_on():
    train = SourcePassages(length=64)
    assert train.held_out().split == "test"
    with pytest.raises(ValueError, match=r"no package 'emial' \(did you mean email"):
        SourcePassages(packages=("emial", "asyncio"))


@pytest.mark.parametrize("pool", ["cls", "mean", "last"])
def test_a_classifier_reads_whole_documents_and_learns(pool):
    task = TwoMarks(length=12, gap=2, filler=2)
    stem = {"name": "classify", "d_vocab": task.d_vocab, "n_classes": 2, "pool": pool}
    model = zoo.sequence(stem=stem, causal=False, d_model=16, n_layers=1, n_heads=2, n_ctx=13).train()
    objective, drawn = SequenceLabels(task, 32), torch.Generator().manual_seed(1)
    batch = objective.batch(0, drawn)
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=1e-2), []
    for _ in range(60):
        losses.append(objective.loss(model, batch))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_a_classifier_ignores_padding_and_reads_pairs(generator):
    stem = {"name": "classify", "d_vocab": 9, "n_classes": 3, "pairs": True}
    model = zoo.sequence(stem=stem, causal=False, d_model=8, n_layers=1, n_heads=2, n_ctx=11)
    tokens = torch.randint(1, 9, (2, 2, 10), generator=generator)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[0, 1, 6:] = False
    changed = torch.where(mask, tokens, 0)
    torch.testing.assert_close(model(tokens, mask), model(changed, mask))
    assert model(tokens).shape == (2, 3)
    with pytest.raises(ValueError, match=r"tokens must be whole numbers of shape \[batch, 2, pos\]"):
        model(tokens[:, 0])
    with pytest.raises(ValueError, match="pool='cls' reads the first position"):
        zoo.sequence(stem=stem, causal=True)
