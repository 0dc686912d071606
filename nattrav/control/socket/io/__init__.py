"""Trio shells of the control socket."""
