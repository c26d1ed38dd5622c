"""Error handling and recovery for Python programs that wrap their own agents: the public names.

    from synthralos.error_handling import ErrorHandlingSystem

    error_system = ErrorHandlingSystem()
    recovery_result = await error_system.handle_error(error, context, recovery_callback)
"""
from synthralos.core.errors import InvalidInput
from synthralos.inprocess.error_handling import ErrorHandlingSystem, HandledError
from synthralos.inprocess.errors import (
    ErrorContext,
    ErrorType,
    EscalationLevel,
    RecoveryStrategy,
    Severity,
)
from synthralos.inprocess.escalation_system import EscalationSystem
from synthralos.inprocess.history_manager import HistoryManager
from synthralos.inprocess.loop_detector import LoopDetector
from synthralos.inprocess.recovery_orchestrator import RecoveryOrchestrator
from synthralos.inprocess.retry_system import RetrySystem
from synthralos.inprocess.rollback_system import RollbackSystem
from synthralos.storage.datastore import Datastore, DatastoreUnavailable, MemoryDatastore

__all__ = [
    "Datastore",
    "DatastoreUnavailable",
    "ErrorContext",
    "ErrorHandlingSystem",
    "ErrorType",
    "EscalationLevel",
    "EscalationSystem",
    "HandledError",
    "HistoryManager",
    "InvalidInput",
    "LoopDetector",
    "MemoryDatastore",
    "RecoveryOrchestrator",
    "RecoveryStrategy",
    "RetrySystem",
    "RollbackSystem",
    "Severity",
]
