"""The cost of recovery: `make bench`, or `python -m benchmarks` with dev/ on PYTHONPATH.

Every figure is a median of interleaved rounds, and what counts is its ratio to, or its difference
from, a floor of the same rounds: other load on the machine hits both alike. Where a budget is a
number of milliseconds, the quickest rounds of both are compared instead, for the same reason.

    measure      interleaving and medians
    figures      one line of the table, and its budget
    fallback     a fallback inside one process, against bare requests, tenacity and LiteLLM
    corpus       every failure of the corpus of provider failures, against LiteLLM and others
    workflows    whole runs on st2local: time, and executions per recovery
    processes    time and memory of each action's process over one that does nothing
    orchestration  whole orchestrations on st2local: what a step takes of 10, of 100 and of 300
    live         whole runs on the StackStorm that ST2_API_URL names
    server       the LLM provider that all of them call
    corpus_server  providers that fail as the corpus says
    noops        a pack whose action does nothing
    peers        environments for the libraries compared with
    clients/     programs that run in their own processes
"""
