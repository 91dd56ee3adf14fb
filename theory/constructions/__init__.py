"""Things built by hand, nothing trained: layers and weights that a statement talks about."""
