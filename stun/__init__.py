"""STUN: codec, responder, NAT behaviour discovery and records. Knows no SIP and no RTP."""
