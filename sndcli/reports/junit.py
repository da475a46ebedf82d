"""A verdict as JUnit XML, which every CI server reads: one test case a gate, a comparison and a flag."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from sndcli.analysis.verdict import GateResult, Verdict

FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0, escaped or not


def junit(verdict: Verdict) -> str:
    """The XML.

    A failed gate and a regression are a ``failure``, a gate that could not be checked is an ``error``, and a flag is
    ``skipped`` with its text: CI servers show it and do not fail for it.
    """
    suite = ET.Element("testsuite", name="snd report")
    properties = ET.SubElement(suite, "properties")
    for name, value in (("state", verdict.state), ("sentence", verdict.sentence)):
        ET.SubElement(properties, "property", name=name, value=_clean(value))
    for gate in verdict.gates:
        _gate(suite, gate)
    for c in verdict.comparisons:
        name = f"{c.measure}@{c.budget}: {c.attack} against {c.new}, was {c.old}"
        case = _case(suite, "baseline", name)
        if c.regression:
            _outcome(case, "failure", "significant regression", c.line())
    for flag in verdict.flags:
        case = _case(suite, "flags", f"{flag.name}: {flag.where}")
        _outcome(case, "skipped", flag.text)
    counted = {name: len(suite.findall(f"testcase/{tag}")) for name, tag in
               (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))}  # fmt: skip
    counted["tests"] = len(suite.findall("testcase"))
    root = ET.Element("testsuites", {"name": "snd"})
    for element in (root, suite):
        for name, count in counted.items():
            element.set(name, str(count))
    root.append(suite)
    ET.indent(root)
    return ET.tostring(root, "unicode", xml_declaration=True) + "\n"


def _gate(suite: ET.Element, gate: GateResult) -> None:
    case = _case(suite, "gates", gate.gate)
    if gate.state == "unchecked":
        _outcome(case, "error", "could not be checked", gate.reason)
    elif gate.failures:
        rows = f"{len(gate.failures)} of {gate.checked} rows fail"
        _outcome(case, "failure", rows, "\n".join(gate.lines()))
    if gate.gaps:
        ET.SubElement(case, "system-out").text = _clean("\n".join(gate.gaps))


def _case(suite: ET.Element, kind: str, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=f"snd.{kind}", name=_clean(name), time="0")


def _outcome(case: ET.Element, tag: str, message: str, text: str = "") -> None:
    ET.SubElement(case, tag, message=_clean(message)).text = _clean(text) or None


def _clean(text: str) -> str:
    return FORBIDDEN.sub("�", text)
