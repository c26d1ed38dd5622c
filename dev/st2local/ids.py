"""Identifiers and times as StackStorm writes them."""
import datetime
import itertools
import os
import random
import time

_counter = itertools.count(random.randrange(1 << 24))
_process = os.urandom(5).hex()


def new_id():
    """24 hex characters, like MongoDB's: time, process, counter. Later ones sort later."""
    return "%08x%s%06x" % (int(time.time()), _process, next(_counter) % (1 << 24))


def timestamp(seconds):
    """Seconds since 1970 -> `2026-01-31T12:00:00.000000Z`."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds_of(text):
    """The reverse of `timestamp`; without a fraction, too."""
    form = "%Y-%m-%dT%H:%M:%S.%fZ" if "." in text else "%Y-%m-%dT%H:%M:%SZ"
    moment = datetime.datetime.strptime(text, form)
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp()
