"""Tools of the build: pinned programs and what finds them."""
