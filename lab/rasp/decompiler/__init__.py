"""The way back: a RASP program out of a compiled model's weights alone."""

from microtome.lab.rasp.decompiler.columns import DecompileError
from microtome.lab.rasp.decompiler.stream import decompile

__all__ = ["DecompileError", "decompile"]
