"""Program text as every Python installation has it: the sources of the standard library, character by character."""

import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from microtome.lab.tasks.protocol import TokenBatch, TokenTask, check_generator, check_sizes

MODULES = (
    "argparse", "ast", "calendar", "configparser", "csv", "dataclasses", "datetime", "decimal", "difflib", "doctest",
    "enum", "fractions", "functools", "heapq", "inspect", "ipaddress", "locale", "mailbox", "optparse", "os", "pdb",
    "pickle", "platform", "pydoc", "random", "shutil", "socket", "statistics", "string", "subprocess", "tarfile",
    "textwrap", "threading", "tokenize", "traceback", "turtle", "typing", "uuid", "zipfile",
)  # fmt: skip
"""Modules of one file, read if this version of Python has them as one."""


@cache
def characters() -> Tensor:
    """The text of `MODULES` one after the other as ASCII codes, "?" for other characters.

    Raises:
        FileNotFoundError: if none of them is there.
    """
    library = Path(sysconfig.get_path("stdlib"))
    files = [library / f"{name}.py" for name in MODULES]
    text = "".join(file.read_text(encoding="utf-8") for file in files if file.is_file())
    if not text:
        raise FileNotFoundError(f"this Python installation has no sources of its standard library under {library}.")
    return torch.frombuffer(bytearray(text.encode("ascii", "replace")), dtype=torch.uint8)


@dataclass(frozen=True)
class SourceText(TokenTask):
    """Windows of the text; the target at every place is the next character.

    Attributes:
        length: positions of a window.
    """

    length: int

    def __post_init__(self):
        check_sizes(length=self.length)

    @property
    def d_vocab(self) -> int:
        return 128

    def sample(self, batch: int, generator: torch.Generator) -> TokenBatch:
        """See `TokenTask.sample`; every place of the text begins a window with equal odds."""
        check_sizes(batch=batch)
        check_generator(generator)
        text = characters()
        starts = torch.randint(len(text) - self.length, (batch, 1), generator=generator, device=generator.device)
        windows = text[starts.cpu() + torch.arange(self.length + 1)].long().to(generator.device)
        tokens = windows[:, :-1]
        return TokenBatch(tokens, windows[:, 1:], torch.ones_like(tokens, dtype=torch.float32))
