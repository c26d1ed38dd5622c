"""`health.get`: the health of the pack and its targets, in numbers and names only.

The rules of `status`:

- critical: a critical ticket is open; or no target of a configured kind (platforms, models, routes)
  may be called; or less than half of the runs of the last hour succeeded, of at least 10.
- degraded: the datastore is unavailable; a breaker is not closed; an account of a provider is spent
  or its key is not valid; an agent is paused; a ticket of high severity is open; a subsystem is
  degraded; or less than nine tenths of these runs succeeded.
- healthy otherwise.

10 runs are the minimum that learning requires before it uses a rate; a half and nine tenths are
choices of this pack. The original system's health was a count of errors without a rating.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Optional, TypedDict

from synthralos.automation import config as automation_config
from synthralos.automation import modes
from synthralos.calls import llm_providers, provider_accounts
from synthralos.calls.provider_accounts import ProviderAccount
from synthralos.calls.targets import targets_by_kind
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.core.plurals import count_noun
from synthralos.core.timestamps import to_iso
from synthralos.operations.running_agents import RunningAgent, running_agents
from synthralos.runtime.environment import Environment
from synthralos.runtime.run_parameters import require_enabled
from synthralos.storage import pauses, run_summaries, tickets, unreadable
from synthralos.storage.account_memory import AccountMemory
from synthralos.storage.circuit_breaker import CLOSED, OPEN, BreakerState
from synthralos.storage.datastore import PAGE_SIZE, PREFIX, BestEffortDatastore, Rows
from synthralos.storage.keyspace import KINDS, key_prefix
from synthralos.storage.run_summaries import RunFacts
from synthralos.storage.tickets import Ticket

HEALTHY, DEGRADED, CRITICAL = "healthy", "degraded", "critical"
OK, AWAY, OFF, UNKNOWN, MISSING = "ok", "away", "off", "unknown", "not_configured"
AVAILABLE, RESTING = "available", "resting"
SEVERITIES = ("critical", "high", "medium", "low")
# The kinds that health is derived from are read by the page; of the others only keys are counted.
READ = ("account_failure", "agent_run", "outcome", "pause", "run", "ticket")
COUNTED = tuple(kind for kind in KINDS if kind not in READ)
MAX_PAGES = 10
MAX_ROWS = MAX_PAGES * PAGE_SIZE
RECENT_WINDOW_SECONDS = 3600
RECENT_RUNS = 10
POOR, FAIR = 0.5, 0.9
# {target: state of its breaker, or None while the datastore is unavailable}
BreakerStates = dict[str, Optional[BreakerState]]


class Rate(TypedDict):
    """How many runs were started by an error, and how many of them recovered; `success_rate`: 0 to
    1, None of no runs.
    """

    total_errors: int
    successful_recoveries: int
    failed_recoveries: int
    redriven: int
    success_rate: Optional[float]


# The functional form, because the key is no name for code.
_Answers = TypedDict("_Answers", {"answered": int})  # noqa: UP013


class TargetStats(_Answers):
    """The attempts at a target, and how many of them it answered; `success_rate`: 0 to 1."""

    attempts: int
    success_rate: float


class Stats(Rate):
    """The rates of the newest runs. `since`: the end of the oldest, in ISO 8601; `capped`: whether
    there are more than were read.
    """

    since: Optional[str]
    capped: bool
    last_hour: Rate
    by_agent: dict[str, Rate]
    by_target: dict[str, TargetStats]


class KeyCount(TypedDict):
    """How many keys of a kind there are; `capped`: at least MAX_ROWS."""

    keys: int
    capped: bool


class ForcedState(TypedDict):
    """The state in which an operator holds a breaker. `until`: in ISO 8601."""

    state: str
    until: str


class AccountEntry(TypedDict):
    """An account of a provider. `cause`, `until`: why it is not called, and until when, in ISO
    8601; `cooling`: {target: when it may be called again} of its rate-limited targets.
    """

    account: str
    provider: str
    state: str
    cause: Optional[str]
    until: Optional[str]
    cooling: dict[str, str]


class PauseEntry(TypedDict):
    """The pause of an agent; times in ISO 8601."""

    agent_id: str
    by: str
    since: str
    until: str
    probe_at: Optional[str]


class Reason(TypedDict):
    """Why the status is not healthy. `level`: DEGRADED or CRITICAL."""

    level: str
    reason: str


class HealthReport(TypedDict):
    """The result of health.get; None is unknown, for want of the datastore.

    `active_errors`: how many tickets are open, `tickets` by severity; `breakers`: {target: state};
    `subsystem_status`: {subsystem: state}; `datastore`, `unreadable`: by kind.
    """

    summary: str
    status: str
    reasons: list[Reason]
    agent_id: Optional[str]
    active_errors: Optional[int]
    stats: Optional[Stats]
    breakers: dict[str, str]
    forced: dict[str, ForcedState]
    accounts: list[AccountEntry]
    pauses: list[PauseEntry]
    running_agents: Optional[list[RunningAgent]]
    tickets: Optional[dict[str, int]]
    subsystem_status: dict[str, str]
    automation: Optional[Mapping[str, Any]]
    datastore: Optional[dict[str, KeyCount]]
    unreadable: Optional[dict[str, int]]
    timestamp: str


def get(env: Environment, agent_id: Optional[str] = None) -> HealthReport:
    """Return the result of health.get.

    :param agent_id: restrict it to the runs, tickets and pauses of this agent and its targets.
    """
    if agent_id is not None:
        require_identifier("agent_id", agent_id)
    now = env.now()
    with unreadable.noticed() as unreadable_names:
        cached_rows, counts = _read(env.store)
        rules = _rules(env.store)
        automation = _automation(env)
        breaker_states, forced = _breakers(env, cached_rows, counts, agent_id)
        accounts = _accounts(env, cached_rows, agent_id)
        paused_agents = {
            agent: pause
            for agent, pause in pauses.listing(cached_rows, now).items()
            if agent_id in (None, agent)
        }
        at_work = running_agents(env, cached_rows, agent_id)
        open_tickets = _by_severity(tickets.list_tickets(cached_rows, subject=agent_id))
        summaries = _summaries(cached_rows, now, agent_id)
    stats = _stats(summaries, now)
    is_unavailable = env.store.unavailable_reason is not None
    breakers = {
        name: UNKNOWN if breaker is None else breaker.state
        for name, breaker in breaker_states.items()
    }
    subsystems = _subsystems(env, breakers, _closed_off(breaker_states, accounts), rules)
    reasons = _reasons(breakers, accounts, paused_agents, open_tickets, stats, subsystems)
    status = HEALTHY
    for level, _ in reasons:
        status = level if status != CRITICAL else status
    reasons_text = "; ".join(text for _, text in reasons)
    return {
        "summary": status + (": " + reasons_text if reasons_text else ""),
        "status": status,
        "reasons": [{"level": level, "reason": text} for level, text in reasons],
        "agent_id": agent_id,
        "active_errors": None if is_unavailable else sum(open_tickets.values()),
        "stats": None if is_unavailable else stats,
        "breakers": breakers,
        "forced": forced,
        "accounts": [
            _account_entry(account, breaker_states, is_unavailable) for account in accounts
        ],
        "pauses": [
            {
                "agent_id": agent,
                "by": pause["by"],
                "since": to_iso(pause["since"]),
                "until": to_iso(pause["until"]),
                "probe_at": None if pause["probe_at"] is None else to_iso(pause["probe_at"]),
            }
            for agent, pause in paused_agents.items()
        ],
        "running_agents": None if is_unavailable else at_work,
        "tickets": None if is_unavailable else open_tickets,
        "subsystem_status": subsystems,
        "automation": None if is_unavailable else automation,
        "datastore": None if is_unavailable else counts,
        "unreadable": None if is_unavailable else _by_kind(unreadable_names),
        "timestamp": to_iso(now),
    }


class _CachedRows(BestEffortDatastore):
    """A read-only datastore of the rows that were already read, so nothing is read twice."""

    def __init__(self, unavailable_reason: Optional[str]) -> None:
        super().__init__(None)
        self._rows: Rows = []
        self.unavailable_reason = unavailable_reason

    def add(self, rows: Rows) -> None:
        self._rows += rows

    def list(self, prefix: str, limit: int = PAGE_SIZE, offset: int = 0) -> Rows:
        matches = [row for row in self._rows if row[0].startswith(prefix)]
        return matches[offset:offset + limit]

    def get(self, name: str, decrypt: bool = False) -> Optional[str]:
        return dict(self._rows).get(name)


def _read(store: BestEffortDatastore) -> tuple[_CachedRows, dict[str, KeyCount]]:
    """Return the rows of the kinds in READ, and how many keys of each kind there are."""
    cached_rows = _CachedRows(store.unavailable_reason)
    counts: dict[str, KeyCount] = {}
    for kind in READ:
        prefix, count = key_prefix(kind), 0
        for page in range(MAX_PAGES):
            rows = store.list(prefix, limit=PAGE_SIZE, offset=page * PAGE_SIZE)
            cached_rows.add(rows)
            count += len(rows)
            if len(rows) < PAGE_SIZE:
                break
        counts[kind] = {"keys": count, "capped": count >= MAX_ROWS}
    for kind in COUNTED:
        count = _count(store, key_prefix(kind))
        counts[kind] = {"keys": count, "capped": count >= MAX_ROWS}
    cached_rows.unavailable_reason = store.unavailable_reason
    return cached_rows, counts


def _count(store: BestEffortDatastore, prefix: str) -> int:
    """Count the keys with `prefix`, at most MAX_ROWS, by galloping and binary search."""
    low, high = 0, MAX_ROWS
    step = 1
    while low < high:
        middle = min(step, high) if step else (low + high + 1) // 2
        if store.list(prefix, limit=1, offset=middle - 1):
            low = middle
            step = 2 * step
        else:
            high, step = middle - 1, 0
    return low


def _breakers(
    env: Environment,
    cached_rows: _CachedRows,
    counts: Mapping[str, KeyCount],
    agent_id: Optional[str],
) -> tuple[BreakerStates, dict[str, ForcedState]]:
    """Return the states of the breakers, and of those among them that are forced."""
    kinds = targets_by_kind(env.settings)
    names = kinds["platform"] if agent_id is not None else sum(kinds.values(), [])
    if env.store.unavailable_reason is not None:
        return dict.fromkeys(names), {}
    ledger = env.ledger if counts["outcome"]["capped"] else env.ledger.with_store(cached_rows)
    forced = {name: ledger.forced(name) for name in names}
    return {name: ledger.breaker_state(name) for name in names}, {
        name: {"state": forced_state.state, "until": to_iso(forced_state.until)}
        for name, forced_state in forced.items()
        if forced_state is not None
    }


def _accounts(
    env: Environment, cached_rows: _CachedRows, agent_id: Optional[str]
) -> list[ProviderAccount]:
    """Return the accounts of providers that have several, as provider_accounts.list_accounts does.
    """
    if agent_id is not None:
        return []
    memory = AccountMemory(cached_rows, env.now)
    return provider_accounts.list_accounts(env.settings.providers, memory)


def _closed_off(breaker_states: BreakerStates, accounts: Iterable[ProviderAccount]) -> set[str]:
    """Return the targets that are not called because of their account.

    A breaker that an operator forces closed overrides the account, as it does in runs.
    """
    closed_off: set[str] = set()
    for account in accounts:
        for target in account.targets if account.failure is not None else ():
            breaker = breaker_states[target]
            if breaker is not None and not breaker.is_forced:
                closed_off.add(target)
    return closed_off


def _account_entry(
    account: ProviderAccount, breaker_states: BreakerStates, is_unavailable: bool
) -> AccountEntry:
    failure = account.failure
    cooling: dict[str, str] = {}
    for target in account.targets:
        breaker = breaker_states[target]
        if breaker is not None and breaker.state == CLOSED and breaker.until is not None:
            cooling[target] = to_iso(breaker.until)
    return {
        "account": account.name,
        "provider": account.provider,
        "state": UNKNOWN if is_unavailable else AVAILABLE if failure is None else RESTING,
        "cause": failure.cause if failure else None,
        "until": to_iso(failure.until) if failure else None,
        "cooling": cooling,
    }


def _summaries(cached_rows: _CachedRows, now: float, agent_id: Optional[str]) -> list[RunFacts]:
    """Return the valid summaries of the newest runs."""
    summaries = []
    for run in run_summaries.recent_summaries(cached_rows, limit=MAX_ROWS):
        targets = run.get("targets")
        is_valid = isinstance(targets, list) and all(isinstance(name, str) for name in targets)
        if not is_valid or run["at"] <= now - run_summaries.TTL_SECONDS:
            continue
        if agent_id is None or _agent(run) == agent_id:
            summaries.append(run)
    return summaries


def _agent(run: RunFacts) -> Optional[str]:
    """Return the agent of a run of agent_recovery, or None."""
    agent = run.get("agent") if run.get("workflow") == "agent_recovery" else None
    return agent if isinstance(agent, str) else None


def _stats(summaries: list[RunFacts], now: float) -> Stats:
    every_run, summaries = summaries, run_summaries.open_runs(summaries)
    recent = [run for run in summaries if run["at"] > now - RECENT_WINDOW_SECONDS]
    agents: dict[str, list[RunFacts]] = {}
    targets: dict[str, TargetStats] = {}
    for run in summaries:
        agent = _agent(run)
        if agent is not None:
            agents.setdefault(agent, []).append(run)
    for run in every_run:
        for target in run["targets"]:
            initial: TargetStats = {"attempts": 0, "answered": 0, "success_rate": 0.0}
            targets.setdefault(target, initial)["attempts"] += 1
        answering_target = run.get("answered")
        if isinstance(answering_target, str) and answering_target in run["targets"]:
            targets[answering_target]["answered"] += 1
    for target_stats in targets.values():
        target_stats["success_rate"] = round(target_stats["answered"] / target_stats["attempts"], 3)
    return {
        **_rate(summaries),
        "since": to_iso(min(run["at"] for run in summaries)) if summaries else None,
        "capped": len(every_run) >= MAX_ROWS,
        "last_hour": _rate(recent),
        "by_agent": {agent: _rate(own) for agent, own in sorted(agents.items())},
        "by_target": dict(sorted(targets.items())),
    }


def _rate(summaries: list[RunFacts]) -> Rate:
    """Return the numbers of runs; a failed run that was made good later counts as that later run.
    """
    recovered = sum(run.get("outcome") == "recovered" for run in summaries)
    return {
        "total_errors": len(summaries),
        "successful_recoveries": recovered,
        "failed_recoveries": len(summaries) - recovered,
        "redriven": sum(
            run.get("outcome") == "recovered" and bool(run.get("redrive")) for run in summaries
        ),
        "success_rate": round(recovered / len(summaries), 3) if summaries else None,
    }


def _by_severity(ticket_heads: Iterable[Ticket]) -> dict[str, int]:
    """Return {severity: number of unresolved tickets}; a missing severity counts as medium."""
    counts = dict.fromkeys(SEVERITIES, 0)
    for ticket in ticket_heads:
        if ticket["status"] != "resolved":
            severity = ticket.get("severity")
            counts[severity if severity in counts else "medium"] += 1
    return counts


def _by_kind(names: Iterable[str]) -> dict[str, int]:
    """Return {kind: number of unreadable rows} of the kinds that health is derived from."""
    counts: dict[str, int] = {}
    for name in names:
        kind = name[len(PREFIX):].split(".", 1)[0]
        counts[kind] = counts.get(kind, 0) + 1
    return dict(sorted(counts.items()))


def _subsystems(
    env: Environment, breakers: Mapping[str, str], closed_off: Collection[str], rules: str
) -> dict[str, str]:
    """Return {subsystem: state}; `closed_off` are the targets not called for their account."""
    is_unavailable = env.store.unavailable_reason is not None
    webhook = any(platform.failure_webhook for platform in env.settings.platforms)
    subsystems = {
        "datastore": AWAY if is_unavailable else OK,
        "stackstorm_api": OK if env.api is not None else MISSING,
        "rules": UNKNOWN if is_unavailable else rules,
        "planner": _planner(env, breakers),
        # These store their state in the datastore.
        "loop_detection": AWAY if is_unavailable else OK,
        "tickets": AWAY if is_unavailable else OK,
        "notifications": OK if webhook else MISSING,
    }
    for kind, names in targets_by_kind(env.settings).items():
        states = {
            OPEN if name in closed_off else breakers[name] for name in names if name in breakers
        }
        if names and not states:
            continue
        subsystems[kind] = (
            MISSING if not names else
            UNKNOWN if UNKNOWN in states else
            AWAY if states == {OPEN} else
            OK if states == {CLOSED} else
            DEGRADED
        )
    return subsystems


def _rules(store: BestEffortDatastore) -> str:
    """Return OK if rules may start runs, else OFF."""
    try:
        require_enabled({"rule": True}, store)
    except InvalidInput:
        return OFF
    return OK


def _automation(env: Environment) -> Mapping[str, Any]:
    """Return the modes in force, as modes.modes_in_force does; invalid entries count as observe."""
    config, _ = automation_config.load(env.settings.automation)
    return modes.modes_in_force(env, config)


def _planner(env: Environment, breakers: Mapping[str, str]) -> str:
    """Return the planner's state; without an LLM playbooks plan, so a missing planner is fine."""
    if env.settings.planner_model is None:
        return MISSING
    try:
        served_model = llm_providers.resolve_model(
            env.settings.providers, env.settings.planner_model
        )
    except InvalidInput:
        return DEGRADED
    state = breakers.get(served_model.target, CLOSED)
    return UNKNOWN if state == UNKNOWN else OK if state == CLOSED else DEGRADED


def _reasons(
    breakers: Mapping[str, str],
    accounts: Iterable[ProviderAccount],
    paused_agents: Iterable[str],
    open_tickets: Mapping[str, int],
    stats: Stats,
    subsystems: Mapping[str, str],
) -> list[tuple[str, str]]:
    """Return [(level, reason)] of all problems, the most severe first."""
    reasons: list[tuple[str, str]] = []
    for name, state in subsystems.items():
        if state == AWAY and name in ("platform", "providers", "routes"):
            reasons.append((CRITICAL, "%s: no target may be called" % name))
    if subsystems["datastore"] == AWAY:
        reasons.append((DEGRADED, "datastore is unavailable"))
    if subsystems["planner"] == DEGRADED:
        reasons.append((DEGRADED, "planner is degraded"))
    for level, severity in ((CRITICAL, "critical"), (DEGRADED, "high")):
        if open_tickets[severity]:
            reasons.append((level, "%s %s" % (
                count_noun(open_tickets[severity], "open ticket is", "open tickets are"), severity
            )))
    recent, rate = stats["last_hour"], stats["last_hour"]["success_rate"]
    if rate is not None and recent["total_errors"] >= RECENT_RUNS and rate < FAIR:
        level = CRITICAL if rate < POOR else DEGRADED
        counts = (recent["successful_recoveries"], recent["total_errors"])
        reasons.append((level, "%d of %d runs of the last hour succeeded" % counts))
    troubled = sorted(name for name, state in breakers.items() if state not in (CLOSED, UNKNOWN))
    if troubled:
        reasons.append((DEGRADED, "breakers not closed: " + ", ".join(troubled)))
    resting = [
        "%s (%s)" % (account.name, account.failure.cause)
        for account in accounts if account.failure is not None
    ]
    if resting:
        reasons.append((DEGRADED, "accounts not called: " + ", ".join(sorted(resting))))
    if paused_agents:
        reasons.append((DEGRADED, "paused: " + ", ".join(sorted(paused_agents))))
    return sorted(reasons, key=lambda reason: reason[0] != CRITICAL)
