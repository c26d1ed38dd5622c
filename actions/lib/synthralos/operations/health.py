"""`health.get`: how the pack and what it looks after are doing, in numbers and names only.

The rule of `status`:

- critical: a critical ticket is open; or no target of a configured kind (platforms, models, routes)
  may be called; or less than half of the runs of the last hour succeeded, of at least 10.
- degraded: the datastore is away; a breaker is not closed; an agent is paused; a ticket of high
  severity is open; a subsystem is degraded; or less than nine tenths of these runs succeeded.
- healthy otherwise.

The 10 runs are what learning asks for before it believes a rate; a half and nine tenths are choices
of this pack. The seeds' health was a count of errors without a judgement.
"""

from synthralos.calls import agent_platform, llm_providers, routes
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.core.timestamps import to_iso
from synthralos.runtime.run_parameters import require_enabled
from synthralos.storage import pauses, run_summaries, tickets, unreadable
from synthralos.storage.circuit_breaker import CLOSED, OPEN
from synthralos.storage.datastore import PAGE_SIZE, PREFIX
from synthralos.storage.keyspace import KINDS, key_prefix

HEALTHY, DEGRADED, CRITICAL = "healthy", "degraded", "critical"
OK, AWAY, OFF, UNKNOWN, MISSING = "ok", "away", "off", "unknown", "not_configured"
SEVERITIES = ("critical", "high", "medium", "low")
# What health is derived from is read, a page at a time; of the other kinds keys are only counted.
READ = ("outcome", "pause", "run", "ticket")
COUNTED = tuple(kind for kind in KINDS if kind not in READ)
MAX_PAGES = 10
MAX_ROWS = MAX_PAGES * PAGE_SIZE
RECENT_WINDOW_SECONDS = 3600
RECENT_RUNS = 10
POOR, FAIR = 0.5, 0.9


def get(env, agent_id=None):
    """The result of health.get.

    :param agent_id: only the runs, tickets and pauses of this agent, and the targets it needs.
    """
    if agent_id is not None:
        require_identifier("agent_id", agent_id)
    now = env.now()
    with unreadable.noticed() as passed_over:
        kept, counts = _read(env.store)
        rules = _rules(env.store)
        breakers, forced = _breakers(env, kept, counts, agent_id)
        held = {
            agent: paused
            for agent, paused in pauses.listing(kept, now).items()
            if agent_id in (None, agent)
        }
        open_tickets = _by_severity(tickets.list_tickets(kept, subject=agent_id))
        summaries = _summaries(kept, now, agent_id)
    stats = _stats(summaries, now)
    away = env.store.unavailable_reason is not None
    subsystems = _subsystems(env, breakers, rules)
    reasons = _reasons(breakers, held, open_tickets, stats, subsystems)
    status = HEALTHY
    for level, _ in reasons:
        status = level if status != CRITICAL else status
    told = "; ".join(text for _, text in reasons)
    return {
        "summary": status + (": " + told if told else ""),
        "status": status,
        "reasons": [{"level": level, "reason": text} for level, text in reasons],
        "agent_id": agent_id,
        "active_errors": None if away else sum(open_tickets.values()),
        "stats": None if away else stats,
        "breakers": breakers,
        "forced": forced,
        "pauses": [
            {
                "agent_id": agent,
                "by": paused["by"],
                "since": to_iso(paused["since"]),
                "until": to_iso(paused["until"]),
                "probe_at": None if paused["probe_at"] is None else to_iso(paused["probe_at"]),
            }
            for agent, paused in held.items()
        ],
        "tickets": None if away else open_tickets,
        "subsystem_status": subsystems,
        "datastore": None if away else counts,
        "unreadable": None if away else _by_kind(passed_over),
        "timestamp": to_iso(now),
    }


class _CachedRows:
    """What has been read of the datastore, in place of it: nothing is asked for twice."""

    def __init__(self, away):
        self._rows, self.away = [], away

    def add(self, rows):
        self._rows += rows

    def list(self, prefix, limit=PAGE_SIZE, offset=0):
        found = [row for row in self._rows if row[0].startswith(prefix)]
        return found[offset:offset + limit]

    def get(self, name, decrypt=False):
        return dict(self._rows).get(name)


def _read(store):
    """(_Kept, {kind: {keys, capped}})."""
    kept, counts = _CachedRows(store.unavailable_reason), {}
    for kind in READ:
        prefix, found = key_prefix(kind), 0
        for page in range(MAX_PAGES):
            rows = store.list(prefix, limit=PAGE_SIZE, offset=page * PAGE_SIZE)
            kept.add(rows)
            found += len(rows)
            if len(rows) < PAGE_SIZE:
                break
        counts[kind] = {"keys": found, "capped": found >= MAX_ROWS}
    for kind in COUNTED:
        found = _count(store, key_prefix(kind))
        counts[kind] = {"keys": found, "capped": found >= MAX_ROWS}
    kept.unavailable_reason = store.unavailable_reason
    return kept, counts


def _count(store, prefix):
    """How many names begin with `prefix`, at most MOST; found by asking for single ones."""
    least, most = 0, MAX_ROWS
    reach = 1
    while least < most:
        middle = min(reach, most) if reach else (least + most + 1) // 2
        if store.list(prefix, limit=1, offset=middle - 1):
            least = middle
            reach = 2 * reach
        else:
            most, reach = middle - 1, 0
    return least


def _breakers(env, kept, counts, agent_id):
    """({target: state}, {target: {state, until}} of those that an operator holds in it).

    A state is `unknown` while the datastore is unavailable.
    """
    kinds = targets_by_kind(env.settings)
    names = kinds["platform"] if agent_id is not None else sum(kinds.values(), [])
    if env.store.unavailable_reason is not None:
        return dict.fromkeys(names, UNKNOWN), {}
    ledger = env.ledger if counts["outcome"]["capped"] else env.ledger.with_store(kept)
    forced = {name: ledger.forced(name) for name in names}
    return {name: ledger.breaker_state(name).state for name in names}, {
        name: {"state": held.state, "until": to_iso(held.until)}
        for name, held in forced.items()
        if held is not None
    }


def targets_by_kind(settings):
    """The names of all targets, by kind, as calls write them into the ledger."""
    return {
        "platform": [agent_platform.target(known) for known in settings.platforms],
        "providers": [
            llm_providers.ServedModel(provider, model).target
            for provider in settings.providers
            for model in provider.models
        ],
        "routes": [routes.RouteCandidate(route, None).target for route in settings.routes],
    }


def _summaries(kept, now, agent_id):
    """The summaries of the newest runs, of those whose form is known."""
    found = []
    for run in run_summaries.recent_summaries(kept, limit=MAX_ROWS):
        targets = run.get("targets")
        known = isinstance(targets, list) and all(isinstance(name, str) for name in targets)
        if not known or run["at"] <= now - run_summaries.TTL_SECONDS:
            continue
        if agent_id is None or _agent(run) == agent_id:
            found.append(run)
    return found


def _agent(run):
    """The agent that a run was about, or None; only a run of agent_recovery is about one."""
    agent = run.get("agent") if run.get("workflow") == "agent_recovery" else None
    return agent if isinstance(agent, str) else None


def _stats(summaries, now):
    recent = [run for run in summaries if run["at"] > now - RECENT_WINDOW_SECONDS]
    agents, targets = {}, {}
    for run in summaries:
        if _agent(run) is not None:
            agents.setdefault(_agent(run), []).append(run)
        for target in run["targets"]:
            told = targets.setdefault(target, {"attempts": 0, "answered": 0})
            told["attempts"] += 1
        answered = run.get("answered")
        if isinstance(answered, str) and answered in run["targets"]:
            targets[answered]["answered"] += 1
    for told in targets.values():
        told["success_rate"] = round(told["answered"] / told["attempts"], 3)
    return dict(
        _rate(summaries),
        since=to_iso(min(run["at"] for run in summaries)) if summaries else None,
        capped=len(summaries) >= MAX_ROWS,
        last_hour=_rate(recent),
        by_agent={agent: _rate(own) for agent, own in sorted(agents.items())},
        by_target=dict(sorted(targets.items())),
    )


def _rate(found):
    good = sum(run.get("outcome") == "recovered" for run in found)
    return {
        "total_errors": len(found),
        "successful_recoveries": good,
        "failed_recoveries": len(found) - good,
        "success_rate": round(good / len(found), 3) if found else None,
    }


def _by_severity(listed):
    """{severity: number of tickets that are not resolved}; one without a severity is medium."""
    counted = dict.fromkeys(SEVERITIES, 0)
    for ticket in listed:
        if ticket["status"] != "resolved":
            severity = ticket.get("severity")
            counted[severity if severity in counted else "medium"] += 1
    return counted


def _by_kind(names):
    """{kind: how many rows of it cannot be read}, of the kinds that health is derived from."""
    counts = {}
    for name in names:
        kind = name[len(PREFIX):].split(".", 1)[0]
        counts[kind] = counts.get(kind, 0) + 1
    return dict(sorted(counts.items()))


def _subsystems(env, breakers, rules):
    away = env.store.unavailable_reason is not None
    webhook = any(known.failure_webhook for known in env.settings.platforms[:1])
    found = {
        "datastore": AWAY if away else OK,
        "stackstorm_api": OK if env.api is not None else MISSING,
        "rules": UNKNOWN if away else rules,
        "planner": _planner(env, breakers),
        # What these remember is in the datastore.
        "loop_detection": AWAY if away else OK,
        "tickets": AWAY if away else OK,
        "notifications": OK if webhook else MISSING,
    }
    for kind, names in targets_by_kind(env.settings).items():
        states = {breakers[name] for name in names if name in breakers}
        if names and not states:
            continue
        found[kind] = (
            MISSING if not names else
            UNKNOWN if UNKNOWN in states else
            AWAY if states == {OPEN} else
            OK if states == {CLOSED} else
            DEGRADED
        )
    return found


def _rules(store):
    """Whether rules may start runs: OK or OFF."""
    try:
        require_enabled({"rule": True}, store)
    except InvalidInput:
        return OFF
    return OK


def _planner(env, breakers):
    """Playbooks plan where no LLM does, so a planner that is not there is no fault."""
    if env.settings.planner_model is None:
        return MISSING
    try:
        served = llm_providers.resolve_model(env.settings.providers, env.settings.planner_model)
    except InvalidInput:
        return DEGRADED
    state = breakers.get(served.target, CLOSED)
    return UNKNOWN if state == UNKNOWN else OK if state == CLOSED else DEGRADED


def _reasons(breakers, held, open_tickets, stats, subsystems):
    """(level, what) of everything that is not as it should be, the worst first."""
    found = []
    for name, state in subsystems.items():
        if state == AWAY and name in ("platform", "providers", "routes"):
            found.append((CRITICAL, "%s: every breaker is open" % name))
    if subsystems["datastore"] == AWAY:
        found.append((DEGRADED, "datastore is away"))
    if subsystems["planner"] == DEGRADED:
        found.append((DEGRADED, "planner is degraded"))
    for level, severity in ((CRITICAL, "critical"), (DEGRADED, "high")):
        if open_tickets[severity]:
            found.append((level, "%d open tickets are %s" % (open_tickets[severity], severity)))
    recent = stats["last_hour"]
    if recent["total_errors"] >= RECENT_RUNS and recent["success_rate"] < FAIR:
        level = CRITICAL if recent["success_rate"] < POOR else DEGRADED
        told = (recent["successful_recoveries"], recent["total_errors"])
        found.append((level, "%d of %d runs of the last hour succeeded" % told))
    troubled = sorted(name for name, state in breakers.items() if state not in (CLOSED, UNKNOWN))
    if troubled:
        found.append((DEGRADED, "breakers not closed: " + ", ".join(troubled)))
    if held:
        found.append((DEGRADED, "paused: " + ", ".join(sorted(held))))
    return sorted(found, key=lambda reason: reason[0] != CRITICAL)
