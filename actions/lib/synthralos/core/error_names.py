"""The names that errors have: codes, types and reasons of providers, and exceptions of SDKs.

A *telling* name says the cause whatever the status or the words beside it say. A *general* name,
such as OpenAI's `RateLimitError` for every 429, says no more than an HTTP status does.
"""

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Optional

from synthralos.core.lazy_pattern import LazyPattern

_TELLING = {
    "quota": """
        insufficient_quota billing_hard_limit_reached billing_not_active billing billing_disabled
        insufficient_balance insufficient_credits insufficient_credit insufficient_funds
        payment_required budget_exceeded budget_exceeded_limit quota_exceeded quota_exhausted
        spending_limit_exceeded credit_exhausted credits_exhausted out_of_credits arrearage
        credit_balance_too_low monthly_limit_exceeded usage_limit_reached usage_limit_exceeded
    """,
    "model_quota": """
        daily_limit_exceeded tokens_per_day_exceeded requests_per_day_exceeded
    """,
    "authentication": """
        authentication unauthenticated invalid_api_key incorrect_api_key api_key_invalid
        api_key_expired expired_api_key missing_api_key no_api_key api_key_not_found
        api_key_service_blocked expired_token token_expired invalid_token access_token_expired
        access_token_scope_insufficient access_token_type_unsupported credentials_missing
        unrecognized_client invalid_signature incomplete_signature missing_authentication_token
        invalid_access_key_id signature_does_not_match account_deactivated account_suspended
        organization_disabled consumer_suspended consumer_invalid invalid_authentication
        invalid_client no_credentials partial_credentials token_retrieval default_credentials
        invalid_subscription_key authentication_failed auth_failed invalid_grant
        token_not_found_in_db
    """,
    "model_not_found": """
        model_not_found model_decommissioned model_deprecated model_not_available invalid_model
        model_not_exist unknown_model unsupported_model model_not_supported no_such_model
        invalid_model_id deployment_not_found model_retired model_not_found_in_catalog
        model_not_allowed model_terms_required invalid_engine dedicated_endpoint_not_running
    """,
    "permission": """
        key_model_access_denied team_model_access_denied user_model_access_denied
        model_access_denied unsupported_country_region_territory
    """,
    "context_length": """
        context_length_exceeded context_window_exceeded exceed_context_size
        exceeded_context_size model_context_window_exceeded prompt_too_long input_too_long
        context_length context_window context_limit_exceeded too_many_tokens
        prompt_tokens_exceeded max_context_length_exceeded context_overflow
    """,
    "content_policy": """
        content_filter content_policy content_policy_violation content_filtered content_blocked
        responsible_ai_policy_violation guardrail_intervened guardrail_intervention safety
        recitation prohibited_content blocklist spii image_safety image_prohibited_content
        image_recitation language refusal refused moderation moderation_blocked
        data_inspection_failed bio_policy misalignment_policy_violation invalid_prompt sensitive
        content_moderation model_armor guardrail_violation policy_violation usage_policy
        cyber_policy_violation guardrails_violation blocked_reason jailbreak
    """,
    "invalid_output": """
        tool_use_failed json_validate_failed output_parse_failed malformed_function_call
        unexpected_tool_call malformed_tool_use malformed_model_output tool_call_validation_failed
        invalid_tool_call output_parser unexpected_model_behavior structured_output_failed
        length_finish_reason failed_generation
    """,
    "unsupported_parameter": """
        unsupported_parameter unsupported_value unknown_parameter unrecognized_parameter
        unsupported_params unrecognized_request_argument unsupported_argument extra_forbidden
    """,
    "unsupported_content": """
        unsupported_content unsupported_image unsupported_file unsupported_modality
        image_content_unsupported unsupported_media_type unsupported_input
    """,
    "overloaded": """
        overloaded overload capacity_exceeded over_capacity model_overloaded engine_overloaded
        server_overloaded model_not_ready insufficient_system_resource no_available_capacity
        at_capacity slow_down model_loading server_busy flex_tier_capacity_exceeded
        resource_unavailable concurrency_limit_reached
    """,
    "server_error": """
        model model_stream model_execution_failed upstream provider_error bad_gateway
        midstream_fallback
    """,
    "truncated_stream": "incomplete_read chunked_encoding stream_closed remote_protocol",
    "timeout": """
        model_timeout api_timeout read_timeout gateway_timeout upstream_timeout deadline_exceeded
        request_timed_out engine_timeout vector_store_timeout timed_out connect_timeout pool_timeout
    """,
    "network": """
        api_connection connect connection_refused connection_reset network network_failure
        econnrefused econnreset enotfound etimedout ehostunreach connection_aborted gaierror
        name_resolution dns
    """,
    "infinite_loop": """
        graph_recursion max_iterations max_turns_exceeded recursion_limit max_steps
        max_iterations_exceeded
    """,
}
# General names: the HTTP status that says as much.
_GENERAL = {
    "rate_limit": 429, "rate_limit_exceeded": 429, "rate_limited": 429, "too_many_requests": 429,
    "throttling": 429, "throttled": 429, "resource_exhausted": 429, "request_limit_exceeded": 429,
    "requests": 429, "tokens": 429,
    "permission_denied": 403, "permission": 403, "access_denied": 403, "forbidden": 403,
    "not_authorized": 403,
    "not_found": 404, "resource_not_found": 404,
    "unauthorized": 401,
    "conflict": 409, "already_exists": 409, "aborted": 409,
    "request_too_large": 413, "request_entity_too_large": 413, "payload_too_large": 413,
    "invalid_request": 400, "bad_request": 400, "invalid_argument": 400, "validation": 400,
    "failed_precondition": 400, "unprocessable_entity": 422,
    "internal_server": 500, "internal": 500, "server": 500, "internal_failure": 500, "api": 500,
    "service_unavailable": 503, "unavailable": 503,
    "cancelled": 499, "request_cancelled": 499,
}
_CAMEL_CASE = LazyPattern(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SUFFIX = LazyPattern(r"_(?:error|exception|failure|err)\Z")
_PERIOD = LazyPattern(r"(?:requests?|tokens?|calls?|count)per(day|minute|second|hour)")


def normalize(name: str) -> str:
    """Return a name in snake case without `Error` or `Exception`: `ExpiredTokenException` and
    `EXPIRED_TOKEN` are `expired_token`.
    """
    name = name.strip().rpartition("#")[2].split(":")[0]
    snake = re.sub(r"[^a-z0-9]+", "_", _CAMEL_CASE.sub("_", name).lower()).strip("_")
    return _SUFFIX.sub("", snake)


@functools.cache
def _cause_of_name() -> dict[str, str]:
    return {normalize(name): cause for cause, names in _TELLING.items() for name in names.split()}


def telling_cause(names: Iterable[str]) -> Optional[str]:
    """Return the cause of the first name that tells one, or None.

    :param names: innermost first. "content_filter: SAFETY" counts as both of its parts.
    """
    for name in names:
        for part in _parts(name):
            if part in _cause_of_name():
                return _cause_of_name()[part]
            # Google: GenerateRequestsPerDayPerProjectPerModel-FreeTier, in any case.
            period = _PERIOD.search(part.replace("_", ""))
            if period is not None:
                return "model_quota" if period.group(1) == "day" else "rate_limit"
    return None


def general_status(names: Iterable[str]) -> Optional[int]:
    """Return the HTTP status that the first general name is as good as, or None."""
    for name in names:
        for part in _parts(name):
            if part in _GENERAL:
                return _GENERAL[part]
    return None


def _parts(name: str) -> Iterator[str]:
    yield normalize(name)
    if ":" in name:
        for part in name.split(":"):
            yield normalize(part)
