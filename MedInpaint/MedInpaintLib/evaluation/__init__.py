"""The experiment: how good the fills are where the truth is known, how fast, and what they do for other tools."""
