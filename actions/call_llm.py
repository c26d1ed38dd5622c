from synthralos.recovery import llm_retry
from synthralos_action import SynthralosAction


class CallLLM(SynthralosAction):
    """Asks an LLM: one round over a case's models, or once as plain parameters say."""

    def run(self, **parameters):
        return self.perform(self._attempt, parameters)

    def _attempt(self, env, parameters):
        case = self.case(env, parameters, llm_retry.WORKFLOW)
        if case is None:
            inputs, started = self.execution(env, parameters)
            case = llm_retry.standalone_case(env, inputs, started)
        return llm_retry.run_round(env, case)
