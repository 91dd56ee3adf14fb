"""Positions: vectors added to the stream, rotations of queries and keys, biases on the scores, or nothing."""
