from synthralos.metrics import query, rollup
from synthralos.metrics.config import MetricsConfig
from synthralos_action import ResourceAction


class Metrics(ResourceAction):
    """`metrics.*`: what runs have come to, counted once, for Prometheus."""

    # Nothing waits for it, and without the datastore it can do nothing.
    key_seconds = 15.0

    def _get(self, env, parameters):
        return query.metrics_report(
            env,
            MetricsConfig.from_config(env.settings.metrics),
            parameters["format"],
            parameters.get("prefix"),
            parameters.get("labels"),
        )

    def _roll_up(self, env, parameters):
        return rollup.roll_up(env, MetricsConfig.from_config(env.settings.metrics))
