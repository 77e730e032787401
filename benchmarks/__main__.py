"""Run the measurements that need no data of their own, one after the other."""

from __future__ import annotations

from benchmarks.speed import decision, overhead, solvers

for benchmark in (solvers, decision, overhead):
    benchmark.main()
