"""Superposition on purpose: a compiled program whose named directions no longer have a dimension each.

    compiled = rasp.compile(program, vocab="abc", max_len=5, optimize=0)
    small = superposition.compress(compiled, width=4)
    small(["a", "b", "a"])                  # the program's values, out of a stream of 4 dimensions
    superposition.gram_figure(small)        # which directions share a dimension
    superposition.curve(compiled, range(2, 9)).figure    # which width keeps how much, beside two projections

After D. Lindner, J. Kramár, S. Farquhar, M. Rahtz, T. McGrath, V. Mikulik, "Tracr: Compiled Transformers as a
Laboratory for Interpretability" (2023), section 5. `rotate` only turns the stream, so that no dimension has a name.
"""

from microtome.lab.rasp.superposition.compress import compress
from microtome.lab.rasp.superposition.compressed import Compressed, rotate
from microtome.lab.rasp.superposition.curve import Curve, Kept, curve
from microtome.lab.rasp.superposition.gram import gram_figure

__all__ = ["compress", "rotate", "Compressed", "curve", "Curve", "Kept", "gram_figure"]
