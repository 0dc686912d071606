"""The whole configuration, one field a table."""

from __future__ import annotations

from pydantic import Field

from nattrav.config.admin import AdminSection
from nattrav.config.control import ControlSection
from nattrav.config.hep import HepSection
from nattrav.config.location import LocationSection
from nattrav.config.log import LogSection
from nattrav.config.node import NodeSection
from nattrav.config.relay import RelaySection
from nattrav.config.sip import Quirk, SipSection, Upstream, User
from nattrav.config.stun import StunSection
from nattrav.config.types import Section


class Configuration(Section):
    """What one file says; every table has defaults, so an empty file is a working one."""

    node: NodeSection = NodeSection()
    admin: AdminSection = AdminSection()
    log: LogSection = LogSection()
    stun: StunSection = StunSection()
    sip: SipSection = SipSection()
    relay: RelaySection = RelaySection()
    control: ControlSection = ControlSection()
    location: LocationSection = LocationSection()
    hep: HepSection = HepSection()
    upstream: list[Upstream] = Field(default=[])
    user: list[User] = Field(default=[])
    quirk: list[Quirk] = Field(default=[])
