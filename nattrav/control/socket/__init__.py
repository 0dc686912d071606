"""The control socket: JSON lines over a Unix stream, for inspection and commands."""
