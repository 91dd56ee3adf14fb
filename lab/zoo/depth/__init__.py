"""Depth policies: which blocks the stream passes, and what they share."""
