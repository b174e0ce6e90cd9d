"""podcidr: several pod CIDR blocks a node, out of named pools, grown and taken back by use."""

__version__ = "0.1.0"
