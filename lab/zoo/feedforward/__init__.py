"""Feed-forward layers: what a block does at each position alone."""
