"""All scenarios, in the order in which they are run."""

from __future__ import annotations

from bench.rounds import Scenario
from bench.scenarios import encoder, footprint, routes, streams, workers

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("classifier", "Classifier alone, by token count", encoder.by_tokens),
        Scenario("clip", "Classification time against prompt length", encoder.clip),
        Scenario("direct", "A directly selected tier, closed loop", routes.direct),
        Scenario("smart", "Smart routing of prompts that never repeat, closed loop", routes.smart),
        Scenario("stream", "Streams: time to the first byte, delay of each chunk", streams.stream),
        Scenario("open", "Fixed arrival rates, latency from the intended send time", routes.open_loop),
        Scenario("mixed", "Streams while 256-token prompts are classified at full load", streams.mixed),
        Scenario("startup", "Start to ready", footprint.startup),
        Scenario("memory", "Memory after load", footprint.memory),
        Scenario("size", "Installed size", footprint.size),
        Scenario("workers", "Two workers against one", workers.workers),
    )
}
