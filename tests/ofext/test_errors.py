"""The table of errors against os-ken's."""

from __future__ import annotations

import pytest
from os_ken.ofproto import ofproto_v1_3 as osken

from ofext.errors import (
    BUNDLE_BY_NAME,
    BUNDLE_BY_TYPE,
    BUNDLE_ERRORS,
    BY_CODE,
    BY_NAME,
    ERRORS,
    EXTENSION_BY_NAME,
    EXTENSION_BY_TYPE,
    EXTENSION_ERRORS,
)

CODE_PREFIX = {
    "HELLO_FAILED": "OFPHFC_",
    "BAD_REQUEST": "OFPBRC_",
    "BAD_ACTION": "OFPBAC_",
    "BAD_INSTRUCTION": "OFPBIC_",
    "BAD_MATCH": "OFPBMC_",
    "FLOW_MOD_FAILED": "OFPFMFC_",
    "GROUP_MOD_FAILED": "OFPGMFC_",
    "PORT_MOD_FAILED": "OFPPMFC_",
    "TABLE_MOD_FAILED": "OFPTMFC_",
    "QUEUE_OP_FAILED": "OFPQOFC_",
    "SWITCH_CONFIG_FAILED": "OFPSCFC_",
    "ROLE_REQUEST_FAILED": "OFPRRFC_",
    "METER_MOD_FAILED": "OFPMMFC_",
    "TABLE_FEATURES_FAILED": "OFPTFFC_",
}


def kebab(name: str) -> str:
    return name.lower().replace("_", "-")


@pytest.mark.parametrize("type_name", CODE_PREFIX)
def test_codes_agree_with_os_ken(type_name: str) -> None:
    number = getattr(osken, f"OFPET_{type_name}")
    prefix = CODE_PREFIX[type_name]
    theirs = {
        (number, code): f"{kebab(type_name)}/{kebab(name[len(prefix) :])}"
        for name, code in vars(osken).items()
        if name.startswith(prefix)
    }
    assert {(kind.type, kind.code): kind.name for kind in ERRORS if kind.type == number} == theirs


def test_nothing_is_said_twice() -> None:
    assert len(BY_CODE) == len(BY_NAME) == len(ERRORS)
    assert len(BUNDLE_BY_TYPE) == len(BUNDLE_BY_NAME) == len(BUNDLE_ERRORS)
    assert len(EXTENSION_BY_TYPE) == len(EXTENSION_BY_NAME) == len(EXTENSION_ERRORS)


def test_every_error_is_one_sentence() -> None:
    for kind in (*ERRORS, *EXTENSION_ERRORS, *BUNDLE_ERRORS):
        assert kind.sentence[0].isupper()
        assert kind.sentence.endswith(".")
