"""Two workers against one: throughput, with the load generator and the upstream kept off the router's cores."""

from __future__ import annotations

import os
from contextlib import ExitStack

from bench.jobs import Endpoint
from bench.rounds import Leg, Play, Reading, Round
from bench.scenarios.routes import latency
from bench.stage import CORES_TO_PIN, SMART_MODEL, Stage

COUNTS = (1, 2)
# Model asked for → (prompt, clients): enough for two workers to be busy, however connections are shared out.
_LOADS = {"direct": ("medium", "fixed", 64), "smart": (SMART_MODEL, "unique", 32)}


def workers(stage: Stage, stack: ExitStack) -> Play:
    """Both routers run for the whole scenario and take turns."""
    stage.need_own_router("workers")
    urls = {count: stack.enter_context(stage.new_router(workers=count)).url for count in COUNTS}
    legs = [
        _leg(stage, f"{kind} WORKERS={count}", Endpoint(urls[count], model), prompt, clients)
        for kind, (model, prompt, clients) in _LOADS.items()
        for count in COUNTS
    ]

    def derive(seen: Round) -> Round:
        rates = {subject: readings["rate"] for subject, readings in seen.items()}
        return {
            f"{kind} 2 / 1": {"scaling": rates[f"{kind} WORKERS=2"] / max(1e-9, rates[f"{kind} WORKERS=1"])}
            for kind in _LOADS
        }

    if stage.load_cores:
        cores = f"upstream and generator pinned to cores {stage.load_cores}, routers to {stage.router_cores}"
    else:
        cores = (
            f"{os.cpu_count()} cores: upstream and generator take from the routers' own, "
            f"so this says little about scaling (needs {CORES_TO_PIN})"
        )
    return Play(legs, derive, [cores], rounds=1 if stage.options.quick else None)


def _leg(stage: Stage, subject: str, where: Endpoint, prompt: str, clients: int) -> Leg:
    def run() -> Reading:
        result = stage.load(stage.job(where, concurrency=clients, prompt=prompt, discard=0.3))
        return Reading({"rate": result.rate, **latency(result)}, result.latencies)

    return Leg(subject, run)
