"""The command line: one file per command group, listed in `app.py`."""
