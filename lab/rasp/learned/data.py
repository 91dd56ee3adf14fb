"""Data sets of tagged sentences: drawn, deduplicated, split, and as tensors."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from microtome.lab.rasp.learned.options import PAD, Options
from microtome.lab.rasp.learned.tasks import Sentence, TaggingTask
from microtome.lab.tasks.protocol import check_sizes

ROUNDS = 5
"""How many times the wanted number of sentences is drawn at most in search of different ones."""
UNSEEN = -1
"""The target of a tag that no training sentence bears: no network can say it, so it counts as missed."""


@dataclass(frozen=True)
class Examples:
    """Sentences with their tags, one a word; `PAD` where nothing is asked."""

    sentences: tuple[Sentence, ...]
    tags: tuple[list[str], ...]

    def __len__(self) -> int:
        return len(self.sentences)


@dataclass(frozen=True)
class Tensors:
    """Examples as numbers, padded.

    Attributes:
        tokens: ids, 0 for padding.
        targets: ids of classes, `UNSEEN` for a class that the options do not have.
        asked: where there is something to answer.
    """

    tokens: Int[Tensor, "batch pos"]
    targets: Int[Tensor, "batch pos"]
    asked: Bool[Tensor, "batch pos"]

    @property
    def weights(self) -> Float[Tensor, "batch pos"]:
        """Of each position in the loss: every sentence weighs the same, and every tag within a sentence."""
        asked = self.asked.float()
        return asked / asked.sum(-1, keepdim=True).clamp(min=1)


@dataclass(frozen=True)
class Data:
    """A task's data set in three parts."""

    task: TaggingTask
    train: Examples
    validation: Examples
    test: Examples

    @property
    def tokens(self) -> tuple[str, ...]:
        """The vocabulary, `PAD` first."""
        return (PAD, *sorted(self.task.words))

    @property
    def classes(self) -> tuple[str, ...]:
        """`PAD`, then the tags that training sentences bear."""
        return (PAD, *sorted({tag for tags in self.train.tags for tag in tags} - {PAD}))

    def options(
        self, n_layers: int, n_cat_heads: int, n_num_heads: int, n_cat_mlps: int, n_num_mlps: int, **others: int
    ) -> Options:
        """A network's options for this task; d_var is as small as the vocabulary and the length allow unless given."""
        narrowest = max(self.task.longest, 0 if others.get("n_embeddings") else len(self.tokens))
        return Options(
            tokens=self.tokens,
            classes=self.classes,
            n_ctx=self.task.longest,
            n_layers=n_layers,
            n_cat_heads=n_cat_heads,
            n_num_heads=n_num_heads,
            n_cat_mlps=n_cat_mlps,
            n_num_mlps=n_num_mlps,
            causal=self.task.causal,
            **{"d_var": narrowest, **others},
        )


def draw(task: TaggingTask, size: int = 20_000, seed: int = 0) -> Data:
    """Different sentences of a task, 81 % for training, 9 % for validation and 10 % for testing.

    There may be fewer than `size` of them, where five times as many draws do not give that many different ones.

    Raises:
        ValueError: if `size` is below 1, or there are too few for three parts.
    """
    check_sizes(size=size)
    generator = torch.Generator().manual_seed(seed)
    different: dict[tuple[str, ...], None] = {}
    for _ in range(ROUNDS):
        different |= dict.fromkeys(map(tuple, task.draw(size, generator)))
        if len(different) >= size:
            break
    sentences = [list(sentence) for sentence in different][:size]
    n_test = -(-len(sentences) // 10)
    n_validation = -(-(len(sentences) - n_test) // 10)
    if len(sentences) - n_test - n_validation < 1:
        raise ValueError(f"{task.name} gave {len(sentences)} different sentences; three parts need at least 3.")
    order = torch.randperm(len(sentences), generator=generator).tolist()
    test, validation, train = (
        _examples(task, [sentences[i] for i in part])
        for part in (order[:n_test], order[n_test : n_test + n_validation], order[n_test + n_validation :])
    )
    return Data(task, train, validation, test)


def _examples(task: TaggingTask, sentences: list[Sentence]) -> Examples:
    return Examples(tuple(sentences), tuple(task.tag(sentence) for sentence in sentences))


def tensors(examples: Examples, options: Options) -> Tensors:
    """Examples under a network's numbering of tokens and classes, padded to n_ctx.

    Raises:
        KeyError: for a word outside the vocabulary.
    """
    token_ids = {word: i for i, word in enumerate(options.tokens)}
    class_ids = {word: i for i, word in enumerate(options.classes)}
    tokens = _padded([[token_ids[word] for word in sentence] for sentence in examples.sentences], options.n_ctx)
    targets = _padded([[class_ids.get(tag, UNSEEN) for tag in tags] for tags in examples.tags], options.n_ctx)
    return Tensors(tokens, targets, targets != 0)


def _padded(rows: list[list[int]], width: int) -> Int[Tensor, "batch pos"]:
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])
