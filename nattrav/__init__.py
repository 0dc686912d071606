"""SIP NAT traversal for the edge of an Internet provider."""

__version__ = "0.1.0"
