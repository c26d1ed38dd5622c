"""The words of errors: what messages say about the cause where no name or status does.

Matched as whole words, without regard to case: "capital" does not contain "api". Compiled at the
first use, because most actions never read a text.
"""

import functools
import re
from collections.abc import Iterable
from re import Pattern
from typing import Optional

from synthralos.core.lazy_pattern import LazyPattern

_CAPACITY = (
    r"(?:at|over|exceeded|insufficient|no available) capacity|"
    r"capacity (?:exceeded|reached|constraints?|limits?)"
)
_SPENT_CREDIT = (
    r"(?:credits?|balance|funds) (?:is |are |has been |have been )?"
    r"(?:too low|exhausted|insufficient|depleted|used up|spent|negative)"
)
_PER_MINUTE = r"(?:tokens?|requests?|calls?)[ _]?(?:per|/)[ _]?(?:min|minute|sec|second|hour)"
# What providers of LLMs say, by cause; what follows a "/" tells phrases of one cause apart. `@KEY@`
# is a credential.
_PROVIDER_PHRASES = {
    "invalid_output": (
        r"failed to (?:call a function|generate json|parse (?:the )?(?:tool|function)\w* call)|"
        r"failed_generation|tool call validation failed|"
        r"model (?:output|generated|produced) .{0,60}(?:invalid|malformed|not valid)"
    ),
    "idempotency_key_reused": (
        r"idempotency[ _-]?key (?:is |was |has been |has )?already (?:been )?used|"
        r"idempotency[ _-]?key.{0,80}(?:re-?used|(?:different|another|other) (?:\w+ )?"
        r"(?:request|payload|parameters?|body|bodies|arguments)|(?:not|n.t) match)|"
        r"(?:different|another) (?:\w+ )?(?:request|payload|parameters?|body|bodies).{0,60}"
        r"idempotency[ _-]?key|"
        r"idempotent requests can only be used with the same parameters"
    ),
    # The limit of all models together is one of the account.
    "quota/all models": r"models[ -]per[ -]day|free model requests per day",
    "quota": (
        r"(?:insufficient|not enough|exhausted|no(?: remaining)?|out of|more|used all available) "
        r"(?:\w+ )?(?:credits?|balance|funds|quota)|(?:insufficient[ _])?quota(?:_exceeded)?|"
        r"credit balance|" +
        _SPENT_CREDIT +
        "|"
        r"billing|purchase|payment required|top up|recharge|can only afford|"
        r"(?:usage|spend(?:ing)?|key|credit|monthly|included|trial) (?:\w+ ){0,2}limits?|"
        r"(?:usage|spend(?:ing)?|key|credit|monthly) (?:\w+ )?cap|"
        r"budget (?:has been |was )?(?:exceeded|exhausted|spent)|"
        r"exceed\w* .{0,30}(?:budget|monthly|spend\w*|credits?)|"
        r"(?:calls?|requests?|tokens?) ?(?:per|/) ?month|in arrears|overdue"
    ),
    "model_quota": (
        r"(?:tokens?|requests?|calls?|queries|images?) ?(?:per|/|a)[ _-]?day|per[ _-]day|"
        r"(?:tpd|rpd)|daily (?:\w+ ){0,3}(?:limit|quota)|"
        r"request too large .{0,300}(?:per min\w*|tpm|tokens per)|tokens must be reduced"
    ),
    "context_length": (
        r"context[ _-]?(?:length|window|size|limit)(?:_exceeded)?|maximum context|"
        r"too many (?:input |prompt )?tokens|"
        r"(?:prompt|input|messages?|conversation|sequence|query) (?:is |are |was )?"
        r"too (?:long|large)|"
        r"(?:token|input|prompt|sequence) (?:count|limit|length).{0,60}"
        r"(?:exceed\w*|larger|greater)|token limit|tokens? .{0,60}must be <=? ?\d+|"
        r"exceed\w* .{0,60}(?:number of|maximum|max|limit of \d+|allowed) (?:input )?tokens|"
        r"\d+ tokens .{0,20}exceeds?|longer than the (?:model|maximum)|"
        r"max_tokens must be at least 1, got -\d+|size limit exceeded by \d+ tokens|"
        r"maximum (?:input|prompt) length|"
        r"reduce (?:the )?(?:length|size) of (?:the |your )?(?:messages|prompt|input)"
    ),
    "permission/location": (
        r"(?:user |your )?(?:location|country|region) is not supported|"
        r"unsupported (?:countr(?:y|ies)|regions?|territor(?:y|ies))"
    ),
    "permission/model access": (
        r"use case details have not been submitted|(?:accept|agree to) .{0,40}terms|"
        r"(?:request|apply for|enable) (?:model )?access"
    ),
    "unsupported_content": (
        r"(?:does not|doesn.t|do not|not) support (?:\w+ ){0,3}"
        r"(?:images?|vision|audio|video|files?|pdfs?|documents?|multimodal)(?: \w+)?|"
        r"(?:image|vision|audio|video|file|pdf|document|multimodal)s?(?:[ _]\w+){0,4} "
        r"(?:is |are )?(?:not |un-?)(?:supported|enabled)|not a multimodal model|"
        r"(?:does not|doesn.t|do not) support .{0,20}prefill\w*|"
        r"at most \d+ (?:image|audio|video|file)|support (?:image|audio|video|file) input|"
        r"(?:image|audio|video|file)_url.{0,60}(?:not supported|only supported|expected)|"
        r"unknown variant .?image_url"
    ),
    "unsupported_parameter": (
        r"(?:unsupported|unrecognized|unknown|unexpected) (?:request )?"
        r"(?:parameters?|values?|arguments?|params?|fields?|keyword)|extra (?:inputs|fields) "
        r"(?:are )?not (?:permitted|allowed)|"
        r"(?:parameter|argument|temperature|top_p|top_k|max_tokens|tools?|tool_choice|"
        r"response_format|reasoning_effort|penalty|logprobs|seed|stop).{0,60}"
        r"(?:not supported|unsupported|not permitted|not available|must be unset|is deprecated)|"
        r"(?:does not|doesn.t|do not) support (?:the )?(?:\S+ ){0,2}"
        r"(?:parameters?|params?|tools?|tool use|tool calling|function calling|temperature|"
        r"top_p|top_k|penalty|logprobs|seed|thinking|reasoning|json mode|structured outputs?|"
        r"system (?:prompts?|messages?))|cannot both be specified|tool choice requires|"
        r"(?<!\+ [`'\"])(?<!\+ )max[_ ](?:new[_ ]|output[_ ])?tokens.? must be (?:<|less than)|"
        r"supports at most \d+ completion tokens|support tool use|"
        r"maximum tokens you requested exceeds"
    ),
    "model_not_found": (
        r"model[ _]not[ _](?:found|exist)|(?:unknown|no such|invalid|unrecognized) model|"
        r"model .{0,80}(?:does not exist|not found|not exist|doesn.t exist|was not found)|"
        r"(?:is )?not a valid model(?: id)?|model (?:identifier|id|name) is invalid|"
        r"(?:decommissioned|deprecated|retired|discontinued|end[ -]of[ -]life)|"
        r"model .{0,80}(?:no longer|not currently) (?:available|supported|served)|"
        r"model .{0,60}is not (?:available|supported)|on-demand throughput|"
        r"deployment .{0,60}(?:does not exist|not found)|"
        r"endpoint .{0,120}is not running|no endpoints found|no allowed providers|"
        r"models?/\S+ is not found|try pulling it|no (?:healthy )?deployments? available|"
        r"is not supported for generatecontent|not (?:supported|deployed) by any provider"
    ),
    "content_policy": (
        r"content[ _-](?:policy|filter\w*|management policy|moderation)|"
        r"(?:safety|usage|acceptable use|ai) (?:system|polic(?:y|ies)|settings|guidelines|"
        r"filters?)|moderation|flagged|responsible ai|guardrails?|content exists risk|"
        r"prohibited (?:content|use)|(?:inappropriate|harmful|sensitive|unsafe) content|"
        r"violat\w+ .{0,80}(?:polic(?:y|ies)|guidelines|terms)|"
        r"(?:request|response|prompt|output|content) (?:was |is |has been )?(?:blocked|filtered)"
    ),
    "authentication": (
        r"unauthori[sz]ed|unauthenticated|authentication(?:_error)?|"
        r"auth(?:entication)? (?:error|fail(?:ed|s|ure))|"
        r"(?:invalid|incorrect|expired|missing|wrong|bad|revoked|malformed|no)[ _]"
        r"(?:\w+[ _])?@KEY@|invalid[ _]token|"
        r"@KEY@(?: \S+)? (?:is |was |has been |has |not )*"
        r"(?:not valid|invalid|expired|missing|disabled|revoked|incorrect|blocked|leaked|deleted|"
        r"required|inactive|not found|not recognized|reported)|"
        r"(?:security )?token included in the request is (?:invalid|expired)|"
        r"signature .{0,60}(?:not match|invalid)|no auth credentials|"
        r"(?:invalid|incorrect|wrong) (?:username|password|credentials)|"
        r"(?:organization|account|workspace|project|team|consumer) (?:\S+ )?(?:is |has been |was )"
        r"(?:deactivated|suspended|disabled|terminated|restricted|not active|blocked)"
    ),
    "overloaded": (
        _CAPACITY +
        r"|overload(?:ed)?(?:_error)?|"
        r"(?:server|service|system|model) (?:is )?(?:too |currently )?busy|"
        r"(?:is |currently )?loading(?: model)?|high (?:demand|load|traffic|volume)|"
        r"queue is full|maximum pending requests"
    ),
    "quota/spent credit": _SPENT_CREDIT,
    "overloaded/capacity": _CAPACITY,
    "rate_limit/per minute": _PER_MINUTE,
    "rate_limit": (
        r"rate[ _-]?limit(?:s|ed|ing|_exceeded)?|too many (?:requests|concurrent)|"
        r"resource (?:has been )?exhausted|throttl\w+|too quickly|slow down|" +
        _PER_MINUTE
    ),
    "permission": (
        r"forbidden|permissions?[ _](?:denied|error)|access denied|"
        r"(?:do(?:es)? not|don.t|no|not) have (?:\w+ )?(?:access|permission)s?|"
        r"not (?:authorized|allowed|permitted|entitled)|gated (?:repo|model)|no access"
    ),
}
# What anybody may say, in the text of a failure: these come after the provider's own phrases.
_GENERAL_PHRASES = [
    ("permission", r"forbidden|permission[ _]denied|access denied"),
    (
        "timeout",
        r"time[ds]?[ -]?out|no (?:answer|response) (?:with)?in|timeouts?|timeout_error|"
        r"deadline (?:exceeded|expired)|took too long|etimedout",
    ),
    (
        "network",
        r"connection|network(?:_error)?|dns|unreachable|econn\w+|enotfound|socket|"
        r"communication(?:_error)?|broken pipe|(?:service|region|provider|host|server) unavailable",
    ),
    (
        "infinite_loop",
        r"infinite[ _]loop|stuck in a loop|loop detected|max(?:imum)?[ _]iterations|"
        r"recursion limit|iteration limit|max(?:imum)?[ _](?:turns|steps)",
    ),
    (
        "resource",
        r"out of memory|oom(?:killed)?|memory(?:error| limit)|no space left|disk (?:is )?full|"
        r"resource_error",
    ),
    (
        "configuration",
        r"misconfigur\w+|configuration(?:_error)?|not configured|missing (?:environment|setting)",
    ),
    (
        "server_error",
        r"internal server error|bad gateway|server error|service unavailable|gateway error",
    ),
    ("tool_failure", r"tools?|tool_failure|function call"),
    (
        "schema_mismatch",
        r"schema|validation(?:_error)?|"
        r"(?:invalid|malformed|unexpected) (?:json|output|response|format)|"
        r"pars(?:e|ing) error|could not parse|jsondecodeerror",
    ),
    ("blank_output", r"(?:empty|blank|no) (?:output|response|answer)"),
]
_KEY = (
    r"(?:api|access|auth\w*|bearer|security|subscription|session|service|virtual)"
    r"[ _-]?(?:key|token|credential)s?"
)
# Names of exceptions are words in camel case: ReadTimeout, RateLimitError.
_CAMEL_CASE = LazyPattern(r"(?<=[a-z0-9])(?=[A-Z])")
_LLM_WORDS = LazyPattern(
    r"(?i)(?<![A-Za-z0-9])(?:llm|openai|anthropic|gemini|model|completion|api)(?![A-Za-z0-9])"
)


@functools.cache
def _provider_pattern(group: str) -> Pattern[str]:
    return _compile(_PROVIDER_PHRASES[group].replace("@KEY@", _KEY))


@functools.cache
def _general_patterns() -> list[tuple[str, Pattern[str]]]:
    return [(cause, _compile(phrases)) for cause, phrases in _GENERAL_PHRASES]


def _compile(phrases: str) -> Pattern[str]:
    return re.compile(r"(?is)(?<![A-Za-z0-9])(?:%s)(?![A-Za-z0-9])" % phrases)


def provider_cause(messages: Iterable[str], causes: Iterable[str]) -> Optional[str]:
    """Return the first of `causes` that a message mentions in a provider's words, or None.

    :param messages: innermost first; the innermost that mentions any cause decides.
    :param causes: keys of _PROVIDER_PHRASES.
    """
    groups = list(causes)
    for message in messages:
        for group in groups:
            if _provider_pattern(group).search(message):
                return group.partition("/")[0]
    return None


def general_cause(text: str) -> Optional[str]:
    """Return the cause that a text mentions in anybody's words, or None."""
    split_words = _CAMEL_CASE.sub(" ", text)
    for cause, pattern in _general_patterns():
        if pattern.search(text) or pattern.search(split_words):
            return cause
    return None


def mentions_llm(text: str) -> bool:
    """Return whether a text speaks of an LLM or an API."""
    return _LLM_WORDS.search(text) is not None


def mentions_model(text: str) -> bool:
    """Return whether a text speaks of a model or its deployment."""
    pattern = r"(?i)(?<![A-Za-z0-9])(?:models?|deployments?|engines?)(?![A-Za-z0-9])"
    return re.search(pattern, text) is not None
