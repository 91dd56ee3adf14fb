"""The commands that need no floor above the lab, and what all commands print with."""
