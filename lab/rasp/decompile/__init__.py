"""The way back: a RASP program out of a compiled model's weights alone."""

from microtome.lab.rasp.decompile.columns import DecompileError
from microtome.lab.rasp.decompile.stream import decompile

__all__ = ["DecompileError", "decompile"]
