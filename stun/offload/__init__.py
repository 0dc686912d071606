"""Binding requests of clients that were answered a moment ago, answered in the kernel by XDP."""
