"""Declared state: Calico's v3 resources in Calico's shapes and at Calico's keys, and a few kinds of our own.

``load_documents`` reads files, ``decode``/``encode`` read and write what a datastore holds, ``Key`` and
``etcd_key`` say where that is, and ``ResourceSet`` is the immutable snapshot that everything else works on.
This package knows no datastore and does no I/O.
"""

from bgpd.resources.base import (
    ANNOTATIONS,
    CAIRN_API_VERSION,
    CALICO_API_VERSION,
    Metadata,
    Resource,
    SecretKeyRef,
)
from bgpd.resources.bgp_configuration import BGPConfiguration
from bgpd.resources.bgp_filter import BGPFilter
from bgpd.resources.bgp_peer import BGPPeer
from bgpd.resources.cairn import CairnConfiguration, NodeLease, ServiceAnswer, ServiceQuestion, ServiceReport
from bgpd.resources.codec import MODELS, decode, encode, to_document
from bgpd.resources.documents import YamlDumper, dump_documents, load_documents
from bgpd.resources.elsewhere import ELSEWHERE, left_elsewhere
from bgpd.resources.errors import ResourceError
from bgpd.resources.examination import Finding, Severity, examine, examine_alone
from bgpd.resources.ip_pool import IPPool
from bgpd.resources.ipam import BlockAffinity, IPAMBlock, IPAMConfig, IPAMHandle
from bgpd.resources.keys import (
    KINDS,
    ROOTS,
    Key,
    affinity_key,
    endpoint_name,
    etcd_key,
    etcd_prefix,
    key_of_etcd,
)
from bgpd.resources.node import Node
from bgpd.resources.node_status import CalicoNodeStatus
from bgpd.resources.resource_set import ResourceSet
from bgpd.resources.scalars import Community
from bgpd.resources.schema import documents_schema, json_schema
from bgpd.resources.selector import Selector, SelectorError
from bgpd.resources.workload_endpoint import WorkloadEndpoint

__all__ = [
    "ANNOTATIONS",
    "CAIRN_API_VERSION",
    "CALICO_API_VERSION",
    "ELSEWHERE",
    "KINDS",
    "MODELS",
    "ROOTS",
    "BGPConfiguration",
    "BGPFilter",
    "BGPPeer",
    "BlockAffinity",
    "CairnConfiguration",
    "CalicoNodeStatus",
    "Community",
    "Finding",
    "IPAMBlock",
    "IPAMConfig",
    "IPAMHandle",
    "IPPool",
    "Key",
    "Metadata",
    "Node",
    "NodeLease",
    "Resource",
    "ResourceError",
    "ResourceSet",
    "SecretKeyRef",
    "Selector",
    "SelectorError",
    "ServiceAnswer",
    "ServiceQuestion",
    "ServiceReport",
    "Severity",
    "WorkloadEndpoint",
    "YamlDumper",
    "affinity_key",
    "decode",
    "documents_schema",
    "dump_documents",
    "encode",
    "endpoint_name",
    "etcd_key",
    "etcd_prefix",
    "examine",
    "examine_alone",
    "json_schema",
    "key_of_etcd",
    "left_elsewhere",
    "load_documents",
    "to_document",
]
