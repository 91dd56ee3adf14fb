"""Passes over trained models that make them smaller or cheaper and keep what they compute, or say what is lost."""
