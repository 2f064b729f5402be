"""Filters: ordered rules on what is announced to and accepted from a peer; the first rule that matches
decides.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from bgpd.resources.base import Model, NamedMetadata, Resource
from bgpd.resources.scalars import NUMBER, Asn, CidrV4, CidrV6, CommunityValue, IPNetwork

MAX_PRIORITY = 2147483646
Priority = Annotated[int, Field(ge=1, le=MAX_PRIORITY), NUMBER]
LengthV4 = Annotated[int, Field(ge=0, le=32), NUMBER]
LengthV6 = Annotated[int, Field(ge=0, le=128), NUMBER]


class PrefixLengthV4(Model):
    """A range of prefix lengths; an absent bound is the CIDR's own length or 32."""

    min: LengthV4 | None = None
    max: LengthV4 | None = None


class PrefixLengthV6(Model):
    """A range of prefix lengths; an absent bound is the CIDR's own length or 128."""

    min: LengthV6 | None = None
    max: LengthV6 | None = None


class CommunityMatch(Model):
    """The one community a route must carry."""

    values: list[CommunityValue] = Field(min_length=1, max_length=1)


class AddCommunity(Model):
    value: CommunityValue


class PrependASPath(Model):
    """AS numbers to stand at the front of the path, in this order."""

    prefix: list[Asn] = Field(min_length=1, max_length=10)


class SetPriority(Model):
    """A route metric: lower is better; on a session within an AS it travels as local preference."""

    value: Priority


class Operation(Model):
    """Exactly one change to a route."""

    add_community: AddCommunity | None = None
    prepend_as_path: PrependASPath | None = Field(None, alias="prependASPath")
    set_priority: SetPriority | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "Operation":
        given = [
            value
            for value in (self.add_community, self.prepend_as_path, self.set_priority)
            if value is not None
        ]
        if len(given) != 1:
            raise ValueError("an operation is exactly one of addCommunity, prependASPath and setPriority")
        return self


class FilterRule(Model):
    """What a rule of either family has: everything given must hold for the rule to match."""

    cidr: IPNetwork | None = None
    prefix_length: PrefixLengthV4 | PrefixLengthV6 | None = None
    match_operator: Literal["Equal", "NotEqual", "In", "NotIn"] | None = None
    source: Literal["RemotePeers"] | None = None
    interface: str | None = Field(None, pattern=r"^[A-Za-z0-9_.*?-]{1,15}$")
    peer_type: Literal["eBGP", "iBGP"] | None = None
    communities: CommunityMatch | None = None
    as_path_prefix: list[Asn] | None = Field(None, alias="asPathPrefix")
    priority: Priority | None = None
    action: Literal["Accept", "Reject"]
    operations: list[Operation] | None = Field(None, min_length=1, max_length=10)

    @field_validator("cidr", "match_operator", "source", "interface", "peer_type", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: object) -> object:
        return None if value == "" else value

    @model_validator(mode="after")
    def _holds_together(self) -> "FilterRule":
        if (self.cidr is None) != (self.match_operator is None):
            raise ValueError("cidr and matchOperator go together; give both or neither")
        if self.prefix_length is not None:
            if self.cidr is None:
                raise ValueError("prefixLength needs a cidr")
            low, high = self.prefix_length.min, self.prefix_length.max
            if low is not None and high is not None and low > high:
                raise ValueError(f"prefixLength min {low} is greater than max {high}")
        if self.operations and self.action != "Accept":
            raise ValueError("operations need action Accept: a rejected route is not changed")
        return self


class FilterRuleV4(FilterRule):
    cidr: CidrV4 | None = None
    prefix_length: PrefixLengthV4 | None = None


class FilterRuleV6(FilterRule):
    cidr: CidrV6 | None = None
    prefix_length: PrefixLengthV6 | None = None


class BGPFilterSpec(Model):
    """Rules for each direction and family; a route no rule decides goes on to the next filter."""

    export_v4: list[FilterRuleV4] | None = Field(None, alias="exportV4")
    import_v4: list[FilterRuleV4] | None = Field(None, alias="importV4")
    export_v6: list[FilterRuleV6] | None = Field(None, alias="exportV6")
    import_v6: list[FilterRuleV6] | None = Field(None, alias="importV6")


class BGPFilter(Resource):
    """A named list of rules that BGPPeers refer to."""

    KIND: ClassVar[str] = "BGPFilter"
    metadata: NamedMetadata = NamedMetadata()
    spec: BGPFilterSpec = BGPFilterSpec()
