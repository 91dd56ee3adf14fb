"""The Long Range Arena (Tay et al. 2020, `long_range_arena`) as an experiment: every mixer on every task."""
