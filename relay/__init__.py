"""The NAT-relay media plane: ports, sessions, latching and the data plane. Knows no SIP and no SDP."""
