"""Office hours as a table, in the spirit of CPL's time-switch: who is reached when, and what happens otherwise.

Use it with `[sip] hooks = "/etc/nattrav/office_hours.py"`.
"""

from nattrav.proxy.hooks import Refuse, RequestView, Route

WEEKDAYS, WEEKEND = range(5), (5, 6)
TABLE = [  # number, days, from hour, to hour, what to do
    ("support", WEEKDAYS, 8.0, 18.0, None),
    ("support", WEEKDAYS, 18.0, 24.0, Route(number="on-call")),
    ("support", WEEKEND, 0.0, 24.0, Route(number="on-call")),
    ("support", range(7), 0.0, 24.0, Refuse(480, "Office closed")),
]


def on_request(request: RequestView) -> Refuse | Route | None:
    if request.method != "INVITE":
        return None
    for number, days, begin, end, action in TABLE:
        if request.number == number and request.weekday in days and begin <= request.hour < end:
            return action
    return None
