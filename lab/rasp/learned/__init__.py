"""Weights → programs: networks that are trained so that they can be read off as Python.

    from microtome.lab.rasp.learned import transformer_programs as tp

Nothing is imported here: the network needs TransformerLens, which takes seconds.
"""
