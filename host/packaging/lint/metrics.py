#!/usr/bin/env python3
"""Names in rules, alerts and dashboards are those of metrics that exist, with labels that they have.

    metrics.py              says what is wrong, and fails if anything is
    metrics.py expressions  prints the dashboard's queries as a file of rules, for promtool

What exists stands in host/src/telemetry/names.rs. Each alert names a headline of docs/operations.md.
"""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
# What Prometheus adds, and what a summary has.
ADDED = {"job", "instance"}
PROMETHEUS = {"up": set()}
# What tests group alerts by.
OF_ALERTS = {"alertname", "severity"}


def metrics():
    """Labels and kind by name."""
    text = (ROOT / "host/src/telemetry/names.rs").read_text()
    found = re.findall(r'= (Counter|Gauge|Summary|Histogram) "(\w+)" \[([^\]]*)\]', text)
    known = {name: set(re.findall(r"\w+", labels)) for _, name, labels in found}
    for kind, name, _ in found:
        if kind == "Histogram":
            known[name + "_sum"] = known[name + "_count"] = set(known[name])
            known[name + "_bucket"] = known[name] | {"le"}
        if kind == "Summary":
            known[name + "_sum"] = known[name + "_count"] = set(known[name])
            known[name] |= {"quantile"}
    return {**known, **PROMETHEUS}


def recorded(known):
    """Rules by name, with the labels that they keep."""
    text = (HERE / "prometheus/rules.yaml").read_text()
    rules = {}
    for rule in re.split(r"- record: ", text)[1:]:
        name = rule.split("\n", 1)[0].strip()
        kept = re.search(r"by \(([^)]*)\)", rule)
        everything = {label for metric in re.findall(r"stator_\w+", rule) for label in known.get(metric, ())}
        rules[name] = set(re.findall(r"\w+", kept[1])) if kept else everything
    return rules


def panels():
    dashboard = json.loads((HERE / "grafana/stator.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


def sources():
    for name in ("rules.yaml", "alerts.yaml", "tests.yaml"):
        text = (HERE / "prometheus" / name).read_text()
        yield name, re.sub(r"(?m)^\s*(#|summary:|- name:).*$", "", text)
    for title, expression in panels():
        yield f"the panel {title!r}", expression


def wrong(where, text, known):
    """What `text` names that does not exist."""
    for name, selector in re.findall(r"\b(stator[_:][\w:]+|up(?=\{))(\{[^}]*\})?", text):
        if name not in known:
            yield f"{where}: there is no {name}"
            continue
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector or ""))
        for label in labels - known[name] - ADDED:
            yield f"{where}: {name} has no label {label}"
    every = set().union(*known.values()) | ADDED | OF_ALERTS
    for group in re.findall(r"\b(?:by|on|without) \(([^)]*)\)", text):
        for label in set(re.findall(r"\w+", group)) - every:
            yield f"{where}: there is no label {label}"


def without_runbook():
    text = (HERE / "prometheus/alerts.yaml").read_text()
    page = (ROOT / "docs/operations.md").read_text()
    anchors = {line.lstrip("# ").lower() for line in page.splitlines() if line.startswith("#")}
    for alert in re.split(r"- alert: ", text)[1:]:
        name = alert.split("\n", 1)[0]
        if f"runbook: docs/operations.md#{name.lower()}\n" not in alert:
            yield f"{name}: its runbook is not docs/operations.md#{name.lower()}"
        if name.lower() not in anchors:
            yield f"{name}: docs/operations.md has no headline of this name"


def as_rules():
    plain = {"$__rate_interval": "5m", "$job": "stator", "$instance": ".*", "$keyspace": ".*"}
    rules = []
    for number, (_, expression) in enumerate(panels()):
        if expression.startswith("label_values"):
            continue
        for variable, value in plain.items():
            expression = expression.replace(variable, value)
        rules.append({"record": f"panel:{number}", "expr": expression})
    return json.dumps({"groups": [{"name": "dashboard", "rules": rules}]})


def main():
    if sys.argv[1:] == ["expressions"]:
        print(as_rules())
        return
    known = metrics()
    assert len(known) > 50, "names.rs was not understood"
    known.update(recorded(known))
    problems = [line for where, text in sources() for line in wrong(where, text, known)]
    problems += without_runbook()
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    sys.exit(bool(problems))


main()
