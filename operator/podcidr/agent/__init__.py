"""The node's side: allocation file, reports, reclaim."""
