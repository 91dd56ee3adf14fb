"""Floor 3: reading and intervening. Probes know hook names and caches, never a paper's class."""
