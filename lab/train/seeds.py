"""Randomness that depends on the step alone, so that a resumed run sees the data of an uninterrupted one."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_MASK = 0xFFFFFFFF


def step_seed(seed: int, step: int, stream: str = "data") -> int:
    """The seed of one step of one stream of randomness, in [0, 2³²).

    For a fixed seed and stream it is a permutation of the steps below 2³², so no two steps of a run share a
    batch. Torch's CPU generator keeps only 32 bits of its seed; a plain 64-bit hash would repeat about 29
    batches in 500,000 steps. The permutation is MurmurHash3's 32-bit finaliser between two key additions
    (Even and Mansour, 1997), the keys being a BLAKE2b hash of the seed and the stream.

    Raises:
        ValueError: if the step is outside [0, 2³²).
    """
    if not 0 <= step <= _MASK:
        raise ValueError(f"step must be between 0 and {_MASK}, not {step}.")
    digest = hashlib.blake2b(f"{stream}:{seed}".encode(), digest_size=8).digest()
    before, after = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")
    return _mix(_mix(step ^ before) ^ after)


def _mix(word: int) -> int:
    """MurmurHash3's fmix32, a bijection of 32-bit words."""
    word = ((word ^ word >> 16) * 0x85EBCA6B) & _MASK
    word = ((word ^ word >> 13) * 0xC2B2AE35) & _MASK
    return word ^ word >> 16


def default_generator(device: torch.device) -> torch.Generator:
    """The generator from which modules such as `nn.Dropout`, which take none, draw on this device."""
    if device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[index]
    return torch.default_generator


@contextmanager
def given_back(generator: torch.Generator) -> Iterator[None]:
    """Gives a borrowed generator back in the state in which it was found.

    A model with dropout cannot be handed a generator; reseeding the default one at each step makes such a
    model resume exactly as well, and giving it back keeps training invisible to the caller's own random
    numbers.
    """
    state = generator.get_state()
    try:
        yield
    finally:
        generator.set_state(state)
