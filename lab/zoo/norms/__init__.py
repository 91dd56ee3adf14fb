"""Normalisations and reparametrisations of weights."""
