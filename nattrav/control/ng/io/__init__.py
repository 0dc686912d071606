"""Sockets of the ng protocol."""
