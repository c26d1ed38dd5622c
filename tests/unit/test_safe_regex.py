"""Which regular expressions of the configuration are taken, by what they may cost."""
import json
import re
import subprocess
import sys

import pytest

from synthralos.core import safe_regex
from synthralos.core.errors import InvalidInput

GOOD = [
    (r"\bACME-\d{6}\b", "case ACME-123456."),
    (r"\d{3}-\d{2}-\d{4}", "078-05-1120"),
    (r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,255}\.[A-Za-z]{2,10}", "jane@mail.example.com"),
    (r"(?:\d{4}[ -]?){3}\d{4}", "4111 1111 1111 1111"),
    (r"\b(?:\d[ -]?){13,16}\b", "4111-1111-1111-1111"),
    (r"(?:\d{1,3}\.){3}\d{1,3}", "10.20.30.40"),
    (r"(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}", "2001:db8:0:0:0:0:0:1"),
    (r"(?i)customer[ _-]?id[:=]\s{0,5}\w+", "Customer_ID: K77"),
    (r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}", "DE89370400440532013000"),
    (r"(?<!\d)\d{9}(?!\d)", "x 123456789 y"),
    (r"(?:foo|bar)-\d+", "bar-12"),
    (r"secret \S+", "the secret word"),
    ("[äöü]{2,8}x", "äöx"),
]
# With why it is refused.
COSTLY = [
    (r"(a+)+$", "never end"), (r"(?:a|aa)+$", "never end"), (r"\d+x", "never end"),
    (r".*secret", "never end"), (r"(.*),(.*);", "never end"), (r"(\w)\1", "groupref"),
    (r"(?P<a>\d{2})(?(a)x|y)", "groupref"), (r"\d{1,100}\d{1,100}x", "steps"),
    (r"(?:a{1,30}){1,30}b", "steps"), (r"(?:a?){40}a{40}", "steps"), (r"(?=(a+)+b)x", "never end"),
    (r"(?:(?:a{1,9}){1,9}){1,9}b", "steps"), (r"(?i)[a-z]{1,99}[A-Z]{1,99}!", "steps"),
    (r"(?:x|[a-z]{1,50}){1,50}!", "steps"), (r"\w{1,99}[^\W_]{1,99}-", "steps"),
]


@pytest.mark.parametrize("pattern, text", GOOD, ids=[pattern for pattern, _ in GOOD])
def test_what_people_write_is_taken(pattern, text):
    assert safe_regex.compile_bounded("p", pattern).search(text)


@pytest.mark.parametrize("pattern, why", COSTLY, ids=[pattern for pattern, _ in COSTLY])
def test_what_may_take_for_ever_is_refused(pattern, why):
    with pytest.raises(InvalidInput) as caught:
        safe_regex.compile_bounded("redaction.patterns[3]", pattern)
    assert caught.value.field == "redaction.patterns[3]" and why in str(caught.value)
    assert "bound" in caught.value.hint.lower()


@pytest.mark.parametrize(
    "pattern, why",
    [
        ("[", "not a valid"), ("(?P<1>a)", "not a valid"), (7, "not a valid"),
        ("", "not a valid"), ("a" * 501, "not a valid"), ("x*", "empty text"),
        (r"\b", "empty text"),
        ("a?|b", "empty text"), ("(?=a)", "empty text"), (None, "not a valid"),
    ],
    ids=str,
)
def test_what_is_none_is_refused(pattern, why):
    with pytest.raises(InvalidInput, match=why):
        safe_regex.compile_bounded("p", pattern)


def test_what_is_taken_comes_to_an_end_on_hostile_text():
    """A process of its own, which can be ended; each pattern over its own worst texts."""
    parts = ["a", "1", "1234 ", "a@", "a" * 64 + "@" + "." * 255, "ffff:", "127.", "Customer_ID",
             "AB12", "ä"]
    texts = [part * (50000 // len(part)) for part in parts]
    code = (
        "import re, sys, json; patterns, texts = json.load(sys.stdin);"
        "[re.sub(p, '', t) for p in patterns for t in texts]"
    )
    payload = json.dumps([[pattern for pattern, _ in GOOD], texts])
    process = subprocess.run(
        [sys.executable, "-c", code], input=payload, text=True, timeout=60, check=False
    )
    assert process.returncode == 0


def test_the_bound_holds_for_what_can_be_counted():
    """Of single characters in a row, the steps are those that a matcher without tricks takes."""
    for pattern, text in (("a{1,9}b", "a" * 9), ("a{2,5}a{1,7}b", "a" * 12), ("aaab", "aaa"),
                          ("a{0,3}a{0,3}a{3}b", "a" * 9), ("a{4}a{1,9}ab", "a" * 20)):
        tree = list(safe_regex.parser.parse(pattern))
        bound, _ = safe_regex._cost(tree, 1, None, False)
        assert _steps(tree, text) <= bound <= safe_regex.MAX_STEPS


def _steps(items, text):
    """How many characters are compared before `items`, literals and repeats of one, do not match.
    """
    if not items:
        return 0
    op, argument = items[0]
    if op in safe_regex._REPEATS:
        least, most, body = argument
        letter = chr(list(body)[0][1])
        run = len(re.match("%s{0,%d}" % (letter, most), text).group())
        ways = range(run, least - 1, -1)
        return run + sum(_steps(items[1:], text[n:]) for n in ways)
    good = text.startswith(chr(argument))
    return 1 + (_steps(items[1:], text[1:]) if good else 0)
