"""The dashboards of nattrav as code; `grafana/build.py` writes them as JSON."""
