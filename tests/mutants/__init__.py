"""Deliberate bugs, and what kills each: a checker that nothing proves able to catch a bug is none."""
