"""Storage of st2local: executions, keys, fired triggers and answers to inquiries, in SQLite.

Many processes may have the same file open; every statement is its own transaction, and none reads,
changes and writes back.
"""
import json
import os
import sqlite3
import threading
import time

from st2local.ids import seconds_of

_SCHEMA = """
create table if not exists executions (
    id text primary key, parent text, action text not null, status text not null,
    started real not null, document text not null);
create index if not exists executions_by_parent on executions (parent);
create index if not exists executions_by_start on executions (started);
create table if not exists keys (
    name text primary key, id text not null, value text not null, secret integer not null,
    expires real, written real not null);
create table if not exists triggers (
    id text primary key, trigger text not null, payload text not null, fired real not null);
create table if not exists responses (execution text primary key, response text not null);
"""

BUSY_SECONDS = 20


class Store:
    """The store.

    :param folder: where the file is stored; created if missing.
    """

    def __init__(self, folder):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self.folder = folder
        self._lock = threading.Lock()
        # One connection for each process, with a lock: the workers are threads.
        self._connection = sqlite3.connect(
            os.path.join(folder, "state.sqlite"), timeout=BUSY_SECONDS, isolation_level=None,
            check_same_thread=False,
        )
        # A power failure may lose the last entries; the file stays consistent.
        self._connection.execute("pragma synchronous = off")
        _patiently(self._connection, "pragma journal_mode = wal")
        tables = self._connection.execute("select 1 from sqlite_master where name = 'responses'")
        if not tables.fetchone():
            for statement in filter(str.strip, _SCHEMA.split(";")):
                _patiently(self._connection, statement)

    def close(self):
        with self._lock:
            self._connection.close()

    def _run(self, statement, *values):
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def _change(self, statement, *values):
        """Execute a statement and return the number of changed rows."""
        with self._lock:
            return self._connection.execute(statement, values).rowcount

    def save_execution(self, document, started):
        self._run(
            "insert or replace into executions values (?, ?, ?, ?, ?, ?)", document["id"],
            document.get("parent"), document["action"]["ref"], document["status"], started,
            json.dumps(document),
        )

    def execution(self, execution_id):
        """The execution as a dict, or None."""
        rows = self._run("select document from executions where id = ?", execution_id)
        return self._with_children(json.loads(rows[0][0])) if rows else None

    def executions(self, parent=None, action=None, status=None, top=False, limit=-1, offset=0,
                   timestamp_gt=None, timestamp_lt=None):
        """Return executions as dicts, newest first.

        :param top: only those that no workflow started.
        :param timestamp_gt: only those that started later; in ISO 8601, in UTC with a Z.
        :param timestamp_lt: only those that started earlier.
        """
        filters = [
            ("parent = ?", parent), ("action = ?", action), ("status = ?", status),
            ("started > ?", timestamp_gt and seconds_of(timestamp_gt)),
            ("started < ?", timestamp_lt and seconds_of(timestamp_lt)),
        ]
        filters = [(clause, value) for clause, value in filters if value is not None]
        clauses = [clause for clause, _ in filters] + (["parent is null"] if top else [])
        where_clause = " where " + " and ".join(clauses) if clauses else ""
        statement = (
            "select document from executions%s order by started desc, id desc" % where_clause
        )
        rows = self._run(
            statement + " limit ? offset ?", *([value for _, value in filters] + [limit, offset]))
        return [self._with_children(json.loads(row[0])) for row in rows]

    def _with_children(self, document):
        rows = self._run(
            "select id from executions where parent = ? order by started, id", document["id"]
        )
        document["children"] = [row[0] for row in rows]
        return document

    def put_key(self, name, key_id, value, secret, expires, written):
        """Write a key; an existing key of that name keeps its id."""
        self._run(
            "insert into keys values (?, ?, ?, ?, ?, ?) on conflict (name) do update set"
            " value = excluded.value, secret = excluded.secret, expires = excluded.expires,"
            " written = excluded.written",
            name, key_id, value, int(secret), expires, written,
        )

    def key(self, name, now):
        """(name, id, value, secret, expires) or None."""
        rows = self._run(
            "select name, id, value, secret, expires from keys where name = ?"
            " and (expires is null or expires > ?)", name, now,
        )
        return rows[0] if rows else None

    def keys(self, prefix, now):
        """Return rows as `key` does, in arbitrary order."""
        return self._run(
            "select name, id, value, secret, expires from keys"
            " where substr(name, 1, length(?)) = ? and (expires is null or expires > ?)"
            # StackStorm guarantees no order either: code that relies on one should fail here.
            " order by substr(id, -1), id desc", prefix, prefix, now,
        )

    def delete_key(self, name):
        """Delete a key; return whether it existed."""
        return self._change("delete from keys where name = ?", name) > 0

    def forget_expired_keys(self, now):
        self._run("delete from keys where expires is not null and expires <= ?", now)

    def add_trigger(self, trigger_id, trigger, payload, fired):
        self._run("insert into triggers values (?, ?, ?, ?)", trigger_id, trigger,
                  json.dumps(payload), fired)

    def triggers(self):
        """(id, trigger, payload, fired), oldest first."""
        rows = self._run("select id, trigger, payload, fired from triggers order by fired, id")
        return [(row[0], row[1], json.loads(row[2]), row[3]) for row in rows]

    def respond(self, execution_id, response):
        """Store a response; return whether it is the first one."""
        return self._change(
            "insert or ignore into responses values (?, ?)", execution_id, json.dumps(response)
        ) > 0

    def response(self, execution_id):
        rows = self._run("select response from responses where execution = ?", execution_id)
        return json.loads(rows[0][0]) if rows else None


def _patiently(connection, statement):
    """Execute a statement, and retry while another process opens the file for the first time.

    SQLite itself does not wait for that.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute(statement).fetchall()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
