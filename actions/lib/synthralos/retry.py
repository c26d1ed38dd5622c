"""Retries and circuit breakers for Python programs: the public home of what `inprocess` has.

    from synthralos.retry import RetryConfig, retry_with_backoff

    config = RetryConfig(max_attempts=5, initial_delay=1.0)
    result = await retry_with_backoff(lambda: run_agent(), config=config,
                                      operation_name="agent_execution")
"""

from synthralos.inprocess.circuit_breaker import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    CircuitBreaker,
    CircuitBreakerOpen,
)
from synthralos.inprocess.retry import RetryConfig, retry_with_backoff, retryable

__all__ = [
    "CLOSED",
    "HALF_OPEN",
    "OPEN",
    "CircuitBreaker",
    "CircuitBreakerOpen",
    "RetryConfig",
    "retry_with_backoff",
    "retryable",
]
