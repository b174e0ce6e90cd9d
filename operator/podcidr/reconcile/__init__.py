"""observe → snapshot → plan → actions → apply."""
