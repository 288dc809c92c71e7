"""The alert rules read metrics that there are."""

import re
from collections.abc import Iterable

import yaml
from prometheus_client.core import Metric

from loaders.health import Pulse
from loaders.metrics import LoadMetrics
from loaders.mllp.metrics import MllpMetrics
from tests.conftest import PROJECT


def samples(metrics: Iterable[Metric]) -> set[str]:
    found: set[str] = set()
    for metric in metrics:
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}
        found |= {metric.name + suffix for suffix in suffixes.get(metric.type, [""])}
    return found


def test_rules_name_metrics_that_are_told() -> None:
    registries = [LoadMetrics(Pulse(300)).registry, MllpMetrics(30).registry]
    there = {name for registry in registries for name in samples(registry.collect())}
    file = yaml.safe_load((PROJECT / "deploy" / "prometheus" / "alerts.yml").read_text())
    rules = [rule for group in file["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        named = set(re.findall(r"\bcdw_\w+", rule["expr"]))
        assert named <= there
        assert named or "up{" in rule["expr"]
        assert {"summary", "description"} == rule["annotations"].keys()
