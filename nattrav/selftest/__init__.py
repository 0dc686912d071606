"""Two built-in phones behind emulated NATs that call each other through the running bundle and listen."""
