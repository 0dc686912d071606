"""HEP3: copies of SIP messages for Homer and sngrep."""
