"""Floor 3: reading and intervening. Probes know hook names and caches, never a paper's class."""

from microtome.probes.entropy import Check as Check
from microtome.probes.entropy import Collapse as Collapse
from microtome.probes.entropy import EntropyTracker as EntropyTracker
