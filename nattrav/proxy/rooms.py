"""The proxy's rooms put together: what every request may need."""

from __future__ import annotations

from dataclasses import dataclass

from nattrav.location.location import Location
from nattrav.proxy.calls import Calls
from nattrav.proxy.media import Media
from nattrav.proxy.parts import Parts
from nattrav.proxy.routing import Routing
from nattrav.proxy.upstreams import Upstreams


@dataclass(frozen=True, slots=True)
class Rooms:
    """One of each."""

    parts: Parts
    location: Location
    upstreams: Upstreams
    routing: Routing
    calls: Calls
    media: Media
