"""Tests of podcidr."""
