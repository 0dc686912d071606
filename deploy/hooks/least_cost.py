"""Least-cost routing: the cheapest upstream for the longest matching prefix first, dearer ones when it fails.

Use it with `[sip] hooks = "/etc/nattrav/least_cost.py"`; the names are those of the [[upstream]] tables.
"""

from nattrav.proxy.hooks import RequestView, Route

PRICES = {  # prefix: {upstream: price per minute}
    "+49": {"berlin": 0.004, "global": 0.009},
    "+49151": {"global": 0.020, "berlin": 0.035},
    "+": {"global": 0.015},
}


def on_request(request: RequestView) -> Route | None:
    if request.method != "INVITE" or request.upstream is not None:
        return None
    prefix = max((p for p in PRICES if request.number.startswith(p)), key=len, default=None)
    return Route(upstreams=sorted(PRICES[prefix], key=PRICES[prefix].__getitem__)) if prefix else None
