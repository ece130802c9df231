"""The table of what the sample programs cost: that each load is what it claims to be, and where figures come from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from perf.programs import FLOWS, SAMPLES, Sample

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "programs"
UNIFORM = tuple(f"{flows:,} flows" for flows in FLOWS)
MATCHED = {"firewall": 1.0, "p0f": 1.0, "token_bucket": 1.0, "blocklist": 0.5}


def test_every_sample_program_is_in_the_table() -> None:
    assert {sample.name for sample in SAMPLES} == {path.stem for path in (ROOT / "bpf_programs").glob("*.c")}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_the_agreement_is_what_the_page_says(sample: Sample) -> None:
    page = " ".join((PAGES / sample.page).read_text().split())
    assert sample.agreement in page


@pytest.mark.needs_bpf
@pytest.mark.skipif(not Path("/etc/p0f/p0f.fp").exists(), reason="p0f's database is not installed")
def test_every_program_meets_the_packets_that_it_is_for() -> None:
    options = ["--rounds", "1", "--seconds", "0.01", "--repeats", "1", "--json"]
    command = [sys.executable, "-m", "perf", "programs", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found = {cost["name"]: cost for cost in json.loads(done.stdout)["programs"]}
    assert found.keys() == MATCHED.keys()
    for name, cost in found.items():
        assert {load: cost["matched"][load] for load in UNIFORM} == dict.fromkeys(UNIFORM, MATCHED[name])
        assert all(len(cost["net_ns"][load]) == 1 for load in UNIFORM)
        assert min(cost["instructions"], cost["stack"], cost["kernel_instructions"], cost["memory"]) > 0
