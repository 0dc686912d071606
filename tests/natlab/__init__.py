"""Kernel NATs in network namespaces, with real user agents behind them."""
