"""Token mixers: one file a mechanism, named by the paper's slug or the field's own word."""
