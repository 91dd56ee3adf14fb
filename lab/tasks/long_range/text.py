"""Classification of documents read byte by byte (Tay et al. 2020, `long_range_arena`, there of film reviews).

The arena's reviews are not at hand here: `Text` makes documents whose class hangs on two words far apart, and
`SourcePassages` cuts passages out of the standard library's own source.
"""

import sysconfig
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from microtome.lab.spelling import near
from microtome.lab.tasks.long_range import documents
from microtome.lab.tasks.long_range.protocol import (
    LabelledSequences,
    SequenceClassification,
    check_request,
    integers,
    whole,
)

NAMES = ("ADA", "BEA", "IDA", "EVA")
NAME_LETTERS = 3


@dataclass(frozen=True)
class Text(SequenceClassification):
    """Made-up documents that name someone twice, at least half a document apart: is it the same person?

    The first name stands in the first quarter of the document, the second in its last; names and labels are drawn
    fairly, so that neither name alone says anything about the label.

    Attributes:
        length: bytes of the longest document.
        shortest: bytes of the shortest; lengths between are as likely. None makes every document `length` long.
    """

    length: int = 1024
    shortest: int | None = None

    def __post_init__(self):
        least = 4 * (NAME_LETTERS + 2)
        for name in ("length", "shortest"):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, so that a name fits a quarter, not {value}.")
        if self.shortest is not None and self.shortest > self.length:
            raise ValueError(f"shortest must be at most length = {self.length}, not {self.shortest}.")

    @property
    def n_classes(self) -> int:
        return 2

    @property
    def d_vocab(self) -> int:
        return documents.D_VOCAB

    def sample(self, batch: int, generator: torch.Generator) -> LabelledSequences:
        """See `SequenceClassification.sample`."""
        check_request(batch, generator)
        shortest = self.length if self.shortest is None else self.shortest
        lengths = integers(shortest, self.length, (batch,), generator)
        labels = integers(0, 1, (batch,), generator)
        first = integers(0, len(NAMES) - 1, (batch,), generator)
        other = (first + integers(1, len(NAMES) - 1, (batch,), generator)) % len(NAMES)
        text = documents.prose(batch, self.length, generator)
        quarter = lengths // 4
        for name, begin in (
            (first, torch.zeros_like(quarter)),
            (torch.where(labels == 1, first, other), lengths - quarter),
        ):
            room = quarter - NAME_LETTERS - 2
            offset = (torch.rand(batch, generator=generator, device=text.device) * (room + 1)).long()
            text = documents.lay(text, begin + offset, _names(text.device)[name])
        return LabelledSequences(*documents.as_ids(text, lengths), labels)


def _names(device: torch.device) -> Int[Tensor, "name letter"]:
    """The names between blanks."""
    return torch.tensor([list(f" {name} ".encode()) for name in NAMES], device=device)


@dataclass(frozen=True)
class SourcePassages(SequenceClassification):
    """Passages of Python's standard library, as installed: which of these packages was it cut from?

    Packages are drawn fairly, then a passage uniformly. A file in five, chosen by a hash of its name, is kept for the
    test, so that no line of a passage there was seen. The text is that of the Python that runs.

    Attributes:
        length: bytes of a passage.
        packages: of the standard library, at least two, each with more text than a passage.
        split: "train" or "test".
    """

    length: int = 1024
    packages: tuple[str, ...] = ("asyncio", "email", "importlib", "unittest")
    split: Literal["train", "test"] = "train"

    def __post_init__(self):
        if self.split not in ("train", "test"):
            raise ValueError(f"split is 'train' or 'test', not {self.split!r}.")
        if self.length < 1 or len(self.packages) < 2:
            raise ValueError("a source text needs length ≥ 1 and at least two packages.")
        for package in self.packages:
            if len(package_bytes(package, self.split)) < self.length:
                raise ValueError(f"package {package!r} has fewer than {self.length} bytes of {self.split} text.")

    @property
    def n_classes(self) -> int:
        return len(self.packages)

    @property
    def d_vocab(self) -> int:
        return documents.D_VOCAB

    def sample(self, batch: int, generator: torch.Generator) -> LabelledSequences:
        """See `SequenceClassification.sample`."""
        check_request(batch, generator)
        device = generator.device
        texts = [package_bytes(package, self.split) for package in self.packages]
        labels = integers(0, self.n_classes - 1, (batch,), generator)
        sizes = torch.tensor([len(text) - self.length + 1 for text in texts], device=device)
        chance = torch.rand(batch, generator=generator, device=device, dtype=torch.float64)
        starts = (chance * sizes[labels]).long()
        passages = [
            texts[label][start : start + self.length]
            for label, start in zip(labels.tolist(), starts.tolist(), strict=True)
        ]
        return whole(torch.stack(passages).long().to(device) + 1, labels)

    def held_out(self) -> "SourcePassages":
        return SourcePassages(self.length, self.packages, "test")


@lru_cache(maxsize=32)
def package_bytes(package: str, split: str) -> UInt8[Tensor, " byte"]:
    """The bytes of a package's modules in alphabetical order, the test's every fifth by hash or the others.

    Raises:
        ValueError: for what is no package of the standard library with source files.
    """
    library = Path(sysconfig.get_path("stdlib"))
    folder = library / package
    if not package.isidentifier() or not (folder / "__init__.py").is_file():
        there = sorted(path.parent.name for path in library.glob("*/__init__.py"))
        raise ValueError(f"the standard library here has no package {package!r}{near(package, there)} with its source.")
    files = [path for path in sorted(folder.rglob("*.py")) if _is_test(path.relative_to(library)) == (split == "test")]
    content = b"\n".join(path.read_bytes() for path in files)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.zeros(0, dtype=torch.uint8)


def _is_test(path: Path) -> bool:
    return zlib.crc32(path.as_posix().encode()) % 5 == 0
