"""Floor 3: reading and intervening. Probes know hook names and caches, never a paper's class."""

from microtome.probes.entropy import Check as Check
from microtome.probes.entropy import Collapse as Collapse
from microtome.probes.entropy import EntropyTracker as EntropyTracker
from microtome.probes.head_scores import HeadScores as HeadScores
from microtome.probes.head_scores import attention_to as attention_to
from microtome.probes.linear import LinearProbe as LinearProbe
from microtome.probes.linear import ProbeResult as ProbeResult
from microtome.probes.linear import Samples as Samples
from microtome.probes.linear import fit_probe as fit_probe
from microtome.probes.linear import probe_points as probe_points
from microtome.probes.linear import read_off as read_off
from microtome.probes.pasting import LinearEmbedding as LinearEmbedding
from microtome.probes.pasting import Pasted as Pasted
from microtome.probes.pasting import TransformerEmbedding as TransformerEmbedding
from microtome.probes.position_probe import PositionProbe as PositionProbe
from microtome.probes.position_probe import fit_position_probe as fit_position_probe
