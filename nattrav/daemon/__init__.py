"""Processes: the supervisor, the services it starts, and what surrounds them on a host."""
