"""Benchmarks: printed with n, p50 and machine; kept in results/ when asked."""
