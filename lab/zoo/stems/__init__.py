"""Stems: how an input becomes a stream and what is read off at its end. Tokens, (x, y) pairs, images."""
