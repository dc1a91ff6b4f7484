"""Figures, not tests: Locum beside FreeRADIUS 3.2 as a proxy, pyrad's proxy and HAProxy, measured in the same run.

`python -m tests.benchmarks [--only NAME ...]`; `make bench` calls it. Rates are good as ratios only: two runs on one
machine differ by a tenth, two machines by much more.
"""
