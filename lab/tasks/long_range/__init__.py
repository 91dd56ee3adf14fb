"""Classification of long sequences: the tasks of the Long Range Arena (Tay et al. 2020, `long_range_arena`), streaming
and seeded, with made-up and package-shipped text and images where the arena's own are not at hand.
"""

from microtome.lab.tasks.long_range.image import Image
from microtome.lab.tasks.long_range.listops import ListOps
from microtome.lab.tasks.long_range.marks import TwoMarks
from microtome.lab.tasks.long_range.protocol import LabelledSequences, SequenceClassification, majority_rate
from microtome.lab.tasks.long_range.retrieval import Retrieval
from microtome.lab.tasks.long_range.text import SourcePassages, Text

__all__ = [
    "LabelledSequences",
    "SequenceClassification",
    "majority_rate",
    "ListOps",
    "Text",
    "SourcePassages",
    "Retrieval",
    "Image",
    "TwoMarks",
]
