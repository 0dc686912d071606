"""The read-only status page: one self-contained page, kept current by server-sent events."""
