"""Recurrences made in parallel: softmax attention over all prefixes, the selective scan, and state-space duality.

Each has its equation, a plain reference, a chunked path, a Triton path and a `step` with a state of one size:

- `prefix_softmax`: one query's softmax attention over every prefix, by the triples (m, u, w);
- `selective`: a diagonal state space whose decay, input and read-out follow the input (S6), a state a channel;
- `ssd`: linear attention under a decay that all channels of a head share (Mamba-2; retention if it is constant).
"""
