"""The registry as a page for people: docs/metrics.md."""

from __future__ import annotations

from collections.abc import Iterator

from nattrav.metrics.registry import SECTIONS, Kind, Metric

_HEADING = """\
# Metrics

Generated from `nattrav/metrics/registry.py` by `make generated`. All services' counts are merged on the supervisor's
`/metrics`; `process_*` are the supervisor's own. Counters end in `_total`, units are seconds, bytes and ratios. Label
values come from closed sets or from the configuration: nothing that a peer chooses becomes a label. An instance has
about 500 series, under a scanner that tries everything less than 1 500.

Edges share nothing, so there are no metrics of a cluster. `state="foreign"` of sessions stays 0.
"""


def page() -> str:
    """Write the page."""
    return "".join(_lines())


def _lines() -> Iterator[str]:
    yield _HEADING
    for section, metrics in SECTIONS.items():
        yield f"\n## {section}\n\n| metric | kind | labels | meaning |\n|---|---|---|---|\n"
        for metric in metrics:
            labels = ", ".join(f"`{label}`" for label in metric.labels)
            yield f"| `{metric.name}` | {metric.kind.value} | {labels} | {_meaning(metric)} |\n"


def _meaning(metric: Metric) -> str:
    if metric.kind is not Kind.HISTOGRAM:
        return metric.help
    return f"{metric.help}. Buckets: {' '.join(f'{edge:g}' for edge in metric.buckets)}"
