"""`python -m demo`: the whole of podcidr on a real API server, in two minutes."""
