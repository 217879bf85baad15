"""The Grafana dashboards of the chart, written from what their panels ask: `make generate`.

`rows` has the panels, `grafana` their form. A new metric is a line in `rows`; a test holds each expression against the
metrics that the services have.
"""
